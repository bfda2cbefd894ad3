"""The duplex audio loop: devices, codec, frames; one process, one session."""
