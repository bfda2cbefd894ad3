"""A model worker's end of the frame socket, in a thread: repeats what it heard two frames ago."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from typing import Self

from moshid.ipc import FrameDecoder, FrameKind, TokenFrame

DELAY_FRAMES = 2


class ParrotPeer:
    """Answers USER frames until END or end of file. ``hold`` stalls it, ``let_go`` goes on.

    ``heard`` and ``said`` keep every frame for assertions.
    """

    def __init__(self, *, step_s: float = 0.0) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.heard: list[TokenFrame] = []
        self.said: list[TokenFrame] = []
        self.ended = threading.Event()
        self._step_s = step_s
        self._going = threading.Event()
        self._going.set()
        self._past: deque[tuple[int, ...]] = deque([()] * DELAY_FRAMES)
        self._thread = threading.Thread(target=self._run, name="parrot", daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """Answer nothing from now on, as a stopped process would."""
        self._going.clear()

    def let_go(self) -> None:
        """Go on after ``hold``."""
        self._going.set()

    def close(self) -> None:
        """Hang up; the thread ends."""
        self._going.set()
        for sock in (self.sock, self.theirs):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was hung up already
        self._thread.join(10)
        self.sock.close()
        self.theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := self.sock.recv(65536):
                for frame in decoder.feed(data):
                    self._answer(frame)
        except OSError:
            pass  # the test hung up
        self.ended.set()

    def _answer(self, frame: TokenFrame) -> None:
        self._going.wait()
        self.heard.append(frame)
        if frame.kind == FrameKind.END:
            self.ended.set()
            return
        if self._step_s:
            time.sleep(self._step_s)  # the model's compute time
        self._past.append(frame.tokens)
        answer = TokenFrame(
            FrameKind.MODEL,
            frame.epoch,
            frame.frame,
            frame.capture_ns,
            tokens=self._past.popleft(),
        )
        self.said.append(answer)
        self.sock.sendall(answer.pack())
