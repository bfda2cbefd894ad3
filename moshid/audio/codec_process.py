"""The audio worker's end of a codec process (see ``codec_host``). Owns the process and its socket.

It works in one of two ways: asked, when each call waits for its answer; or taking in what another
one is asked (``take_sound``, ``take_tokens``), when nothing waits and the answers are only counted.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import deque
from typing import Final

import numpy as np

from moshid.audio import codec_host as host
from moshid.audio.codec import Tokens
from moshid.audio.frames import FRAME_SAMPLES
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint, CodecDied

READY_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 30.0
"""A frame takes a thousandth of this; on a machine at ten times its load one took more than 5 s."""

SOCKET_BYTES: Final = 256 * 1024


class CodecProcess:
    """One rustymimi object in a process of its own."""

    def __init__(
        self,
        weights: str,
        codebooks: int,
        positions: int,
        *,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Starts the process; does not wait for it (``catch_up``)."""
        self._answer_timeout_s = answer_timeout_s
        self._weights = weights
        self._codebooks = codebooks
        self._sock, theirs = socket.socketpair()
        with theirs:
            for end in (self._sock, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            arguments = [str(theirs.fileno()), weights, str(codebooks), str(positions)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", host.__name__, *arguments],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
        self._sock.settimeout(READY_TIMEOUT_S)
        self._ready = False
        self._to_send: deque[bytes] = deque()
        self._unanswered = 0
        self.encoded = 0
        """Frames that it has encoded, or been given to take in."""
        self.decoded = 0
        """The same of the other direction."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def begin(self, pcm: Samples) -> None:
        """Have it work on float32 [960], a frame's first half. Never blocks. Raises CodecDied."""
        self._feed(host.BEGIN + pcm.astype("<f4", copy=False).tobytes())

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920], or the [960] after those begun with → one token a codebook. Raises
        CodecDied."""
        self.catch_up()
        kind = host.ENCODE if len(pcm) == FRAME_SAMPLES else host.FINISH
        self._send(kind + pcm.astype("<f4", copy=False).tobytes())
        self.encoded += 1
        codes = self._answer(host.CODES, 2 * self._codebooks)
        return tuple(np.frombuffer(codes, "<u2").tolist())

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]. Raises CodecDied."""
        self.catch_up()
        self._send(host.DECODE + np.array(tokens, "<u2").tobytes())
        self.decoded += 1
        return np.frombuffer(self._answer(host.SOUND, host.FRAME_BYTES), np.float32).copy()

    def take_sound(self, pcm: Samples) -> None:
        """Have it take in a frame that another one encodes. Never blocks."""
        self.encoded += 1
        self._feed(host.TAKE_SOUND + pcm.astype("<f4", copy=False).tobytes())

    def take_tokens(self, tokens: Tokens) -> None:
        """Have it take in a frame that another one decodes. Never blocks."""
        self.decoded += 1
        self._feed(host.TAKE_TOKENS + np.array(tokens, "<u2").tobytes())

    def hurry(self) -> None:
        """Have it be served first by the system, from now on. Never blocks."""
        self._feed(host.HURRY)

    def is_level(self) -> bool:
        """Whether it has taken in all that it was given, so that it would answer at once. Raises
        BadCheckpoint, CodecDied."""
        self._push()
        return self._ready and not self._unanswered and not self._to_send

    def catch_up(self) -> None:
        """Wait until it is ready, and has taken in what it was given. Raises BadCheckpoint,
        CodecDied."""
        if not self._ready:
            self._take_ready(self._receive(1))
        while self._to_send:
            self._send(self._to_send.popleft())
        while self._unanswered:
            self._answer(host.TAKEN, 0)
            self._unanswered -= 1

    def close(self) -> None:
        """End the process, without waiting for it: it has much memory to give back. May be called
        again."""
        self._sock.close()
        self._process.kill()

    def has_ended(self) -> bool:
        """Whether the process is gone (and is no zombie any more)."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait for its end, after ``close``."""
        self._process.wait()

    def _feed(self, message: bytes) -> None:
        self._unanswered += 1
        self._to_send.append(message)
        self._push()

    def _push(self) -> None:
        """Send and receive what goes without waiting."""
        patience_s = self._sock.gettimeout()
        self._sock.setblocking(False)
        try:
            while answers := self._sock.recv(1 if not self._ready else 4096):
                if not self._ready:
                    self._sock.settimeout(self._answer_timeout_s)
                    self._take_ready(answers)
                    patience_s = self._answer_timeout_s
                    self._sock.setblocking(False)
                else:
                    self._unanswered -= len(answers)
            raise CodecDied("the codec's process ended")
        except BlockingIOError:
            self._push_messages()
        except OSError as e:
            raise CodecDied(f"the codec's process is gone: {e}") from e
        finally:
            self._sock.settimeout(patience_s)

    def _push_messages(self) -> None:
        while self._ready and self._to_send:
            message = self._to_send.popleft()
            try:
                sent = self._sock.send(message)
            except BlockingIOError:
                sent = 0
            if sent < len(message):
                self._to_send.appendleft(message[sent:])
                return

    def _take_ready(self, answer: bytes) -> None:
        if answer == host.FAILED:
            size = int.from_bytes(self._receive(2), "little")
            text = self._receive(size).decode(errors="replace").splitlines() or ["no reason given"]
            raise BadCheckpoint(f"the codec in {self._weights} cannot be read: {text[0]}")
        if answer != host.READY:
            raise CodecDied("the codec's process said what it should not")
        self._ready = True
        self._sock.settimeout(self._answer_timeout_s)

    def _answer(self, kind: bytes, size: int) -> bytes:
        answer = self._receive(1 + size)
        if answer[:1] != kind:
            raise CodecDied("the codec's process said what it should not")
        return answer[1:]

    def _send(self, message: bytes) -> None:
        try:
            self._sock.sendall(message)
        except OSError as e:
            raise CodecDied(f"the codec's process is gone: {e}") from e

    def _receive(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = self._sock.recv(size)
            except OSError as e:
                raise CodecDied(f"the codec's process does not answer: {e}") from e
            if not part:
                raise CodecDied("the codec's process ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
