"""A talk as the model worker sees it: token frames in, answers out. Owns the frame socket.

Never blocks but in the step itself: the socket is non-blocking, at most one read of frames waits,
and a peer that does not take its answers (its credit is two frames) loses the talk.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from moshid.ipc import FrameDecoder, FrameKind, TokenFrame, WireError
from moshid.model.messages import EndReason, TextEvent
from moshid.model.monitor import Monitor

log = logging.getLogger(__name__)

READ_BYTES = 4096
"""Some thirty frames: more than the credit allows, so a bound and no limit."""

Notify = Callable[[str, msgspec.Struct], None]


class TalkSession:
    """One talk's frames, from its fresh state to its end."""

    def __init__(
        self,
        session: str,
        epoch: int,
        sock: socket.socket,
        engine: Monitor,
        notify: Notify,
    ) -> None:
        sock.setblocking(False)
        self.session = session
        self.frames = 0
        """USER frames answered."""
        self._epoch = epoch
        self._sock = sock
        self._engine = engine
        self._notify = notify
        self._decoder = FrameDecoder()
        self._waiting: deque[TokenFrame] = deque()

    def fileno(self) -> int:
        """For select."""
        return self._sock.fileno()

    @property
    def has_frames(self) -> bool:
        """Whether frames are read and not yet answered."""
        return bool(self._waiting)

    def serve_one(self) -> EndReason | None:
        """Answer at most one frame; why the talk ended, or None while it goes on.

        Raises:
            ModelError: the model is sick; the talk is not over, its process is.
        """
        try:
            if not self._waiting and (ended := self._read()):
                return ended
            if not self._waiting:
                return None
            return self._answer(self._waiting.popleft())
        except WireError as e:
            log.error("talk %s: %s", self.session, e)
            return "bad_frame"

    def close(self) -> None:
        """Say END as far as the peer listens, and close the socket."""
        with contextlib.suppress(OSError):
            self._sock.send(TokenFrame(FrameKind.END, self._epoch, self.frames).pack())
        self._sock.close()

    def _read(self) -> EndReason | None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return "eof"
        if not data:
            return "eof"
        self._waiting.extend(f for f in self._decoder.feed(data) if f.epoch == self._epoch)
        return None

    def _answer(self, frame: TokenFrame) -> EndReason | None:
        if frame.kind is FrameKind.END:
            return "end"
        if frame.kind is not FrameKind.USER:
            raise WireError(f"a {frame.kind.name} frame came where the user's are due")
        try:
            result = self._engine.step(frame.tokens[: self._engine.facts.codebooks_user])
        except ValueError as e:
            raise WireError(str(e)) from e
        self.frames += 1
        answer = TokenFrame(
            FrameKind.MODEL, self._epoch, frame.frame, frame.capture_ns, result.text, result.tokens
        )
        self._say(frame.frame, result.text)
        return self._send(answer.pack())

    def _say(self, frame: int, text: int) -> None:
        if (piece := self._engine.engine.piece(text)) is not None:
            self._notify("text", TextEvent(self.session, frame, text, piece))

    def _send(self, data: bytes) -> EndReason | None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return "not_reading"
        except OSError:
            return "eof"
        return None if sent == len(data) else "not_reading"
