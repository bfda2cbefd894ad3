"""Bytes between processes: token frames, and JSON messages that may carry file descriptors.

Owns both wire formats; knows nothing of what they mean. Blocking and non-blocking callers share
the same pure encoders and incremental decoders.

Token frame, little-endian (design contract)::

    u32 length   bytes that follow this field
    u8  kind     FrameKind
    u32 epoch    one number a session and model start; frames of older epochs are dropped
    u32 frame    index of the 80 ms frame since the session began, over all its epochs
    u64 capture_ns  time.monotonic_ns() when the frame's last sample was captured
    i32 text     text token, -1 for none
    u16 n        number of audio tokens
    u16[n]       tokens, codebook 0 first

Message: u32 little-endian length, then that many bytes of UTF-8 JSON.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<BIIQiH")

FRAME_BYTES_MAX: Final = 4096
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
IN_FLIGHT_FRAMES_MAX: Final = 2
"""Credit: frames the audio worker may have sent without an answer."""


class FrameKind(IntEnum):
    """What a token frame is."""

    USER = 1
    """Audio worker to model worker: what the user said; text is -1."""
    MODEL = 2
    """Model worker to audio worker: the answer to USER frame ``frame``; n is 0 while the model
    has nothing to say yet (its first frames)."""
    END = 3
    """Either way: no more frames of this epoch follow."""


class WireError(ValueError):
    """The peer sent something that is no frame or no message."""


@dataclass(frozen=True, slots=True)
class TokenFrame:
    """One 80 ms frame of tokens."""

    kind: FrameKind
    epoch: int
    frame: int
    capture_ns: int = 0
    text: int = -1
    tokens: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """The frame as bytes, its length first."""
        n = len(self.tokens)
        body = _HEAD.pack(self.kind, self.epoch, self.frame, self.capture_ns, self.text, n)
        body += struct.pack(f"<{n}H", *self.tokens)
        return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._split = _Splitter(FRAME_BYTES_MAX)

    def feed(self, data: bytes) -> list[TokenFrame]:
        """Frames completed by ``data``.

        Raises:
            WireError: impossible length, unknown kind, or a count that does not fit the length.
        """
        return [_unpack(body) for body in self._split.feed(data)]


def _unpack(body: bytes) -> TokenFrame:
    if len(body) < _HEAD.size:
        raise WireError(f"a frame of {len(body)} bytes is shorter than its header")
    kind, epoch, frame, capture_ns, text, n = _HEAD.unpack_from(body)
    if len(body) != _HEAD.size + 2 * n:
        raise WireError(f"a frame of {len(body)} bytes does not hold {n} tokens")
    try:
        frame_kind = FrameKind(kind)
    except ValueError as e:
        raise WireError(f"unknown frame kind {kind}") from e
    tokens = struct.unpack_from(f"<{n}H", body, _HEAD.size)
    return TokenFrame(frame_kind, epoch, frame, capture_ns, text, tokens)


def pack_message(message: dict[str, Any]) -> bytes:
    """A JSON message as bytes, its length first."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > MESSAGE_BYTES_MAX:
        raise WireError(f"a message of {len(body)} bytes is over {MESSAGE_BYTES_MAX}")
    return _LENGTH.pack(len(body)) + body


class MessageDecoder:
    """Bytes in, whole JSON messages out."""

    def __init__(self) -> None:
        self._split = _Splitter(MESSAGE_BYTES_MAX)

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Messages completed by ``data``.

        Raises:
            WireError: impossible length, or no JSON object.
        """
        messages = []
        for body in self._split.feed(data):
            try:
                message = json.loads(body)
            except ValueError as e:
                raise WireError(f"a message is no JSON: {e}") from e
            if not isinstance(message, dict):
                raise WireError("a message is no JSON object")
            messages.append(message)
        return messages


class _Splitter:
    """Splits a byte stream at its u32 lengths."""

    def __init__(self, body_bytes_max: int) -> None:
        self._max = body_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > self._max:
                raise WireError(f"a length of {length} bytes is over {self._max}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body


def send_with_fds(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> int:
    """Send the start of ``data`` with ``fds`` attached (SCM_RIGHTS); returns the bytes sent."""
    if not fds:
        return sock.send(data)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    return sock.sendmsg([data], rights)


def recv_with_fds(sock: socket.socket, size: int = 65536) -> tuple[bytes, list[int]]:
    """Receive up to ``size`` bytes and the descriptors that came with them.

    Returns ``(b"", [])`` at end of file. Descriptors are close-on-exec.
    """
    data, fds, _flags, _address = socket.recv_fds(sock, size, 8)
    for fd in fds:
        os.set_inheritable(fd, False)
    return data, list(fds)
