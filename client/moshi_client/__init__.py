"""moshi-client: the thin client of moshid. Standard library only; never imports moshid."""

__version__ = "0.1.0"
