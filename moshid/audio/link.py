"""The socket to the model worker. Owns sending and receiving token frames without blocking."""

from __future__ import annotations

import socket

from moshid.ipc import FrameDecoder, TokenFrame, WireError


class FrameLink:
    """One end of a frame socketpair. Credit keeps at most two small frames in it, so sending never
    meets a full buffer unless the peer breaks the rule: then the link counts as gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._decoder = FrameDecoder()
        self.gone = False

    def fileno(self) -> int:
        """For select; -1 once closed."""
        return self._sock.fileno()

    def send(self, frame: TokenFrame) -> None:
        """Send one frame; on failure the link is ``gone``."""
        data = frame.pack()
        try:
            self.gone = self.gone or self._sock.send(data) != len(data)
        except OSError:
            self.gone = True

    def receive(self) -> list[TokenFrame]:
        """Frames that have come since the last call; on end of file the link is ``gone``."""
        frames: list[TokenFrame] = []
        try:
            while data := self._sock.recv(65536):
                frames += self._decoder.feed(data)
            self.gone = True
        except BlockingIOError:
            pass
        except (OSError, WireError):
            self.gone = True
        return frames

    def close(self) -> None:
        """Close the socket. Safe to call twice."""
        self._sock.close()
