"""The listening socket: who may connect, and one task for each who does.

Owns the socket file: bound under umask 0177 in a directory of ours, removed at the end. Only the
holder of the home's lock may call this, since it removes a stale socket first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final

from moshid.errors import AlreadyRunning, HomeUnusable, TooManyRequests
from moshid.rpc.connection import Connection
from moshid.rpc.dispatch import Dispatcher, error_reply
from moshid.rpc.wire import LINE_BYTES_MAX, encode

log = logging.getLogger(__name__)

BACKLOG: Final = 64
LOOK_S: Final = 2.0
CONNECTIONS_MAX: Final = 100
"""Below macOS's usual limit of 256 descriptors, so that downloads and workers keep theirs."""


def peer_uid(sock: socket.socket) -> int:
    """The user id of the process at the other end of a connected Unix socket."""
    if sys.platform == "darwin":
        # struct xucred: u32 version, uid, i16 ngroups, ...; SOL_LOCAL is 0, LOCAL_PEERCRED is 1.
        data = sock.getsockopt(0, 1, 76)
        return int(struct.unpack_from("=II", data)[1])
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[1])


class RpcServer:
    """Serves the control socket."""

    def __init__(self, path: Path, dispatcher: Dispatcher[Any], *, look_s: float = LOOK_S) -> None:
        """``look_s``: between two looks at whether the socket is still there."""
        self._look_s = look_s
        self._path = path
        self._dispatcher = dispatcher
        self._connections: set[asyncio.Task[None]] = set()
        self._inode: int | None = None

    async def run(self, *, started: asyncio.Event) -> None:
        """Listen until cancelled; then end every connection and remove the socket. One that
        somebody deleted, with its folder perhaps, is made anew: without it the daemon would be out
        of reach, and a second one could start."""
        server = await self._listen()
        started.set()
        try:
            while True:
                await asyncio.sleep(self._look_s)
                if self._is_gone():
                    server = await self._listen_again(server)
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            self._remove_ours()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(
            self._accept, sock=self._bind(), limit=LINE_BYTES_MAX, backlog=BACKLOG
        )

    async def _listen_again(self, server: asyncio.Server) -> asyncio.Server:
        """On a new socket; on the old one, as long as there can be none."""
        try:
            # Its folder may be gone with it, but not the one above: that would be another volume.
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            anew = await self._listen()
        except (HomeUnusable, AlreadyRunning, OSError) as e:
            log.debug("the control socket cannot be made anew: %s", e)
            return server
        log.warning("the control socket was deleted, and is made anew: %s", self._path)
        server.close()
        return anew

    def _bind(self) -> socket.socket:
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        old_umask = os.umask(0o177)
        try:
            listener.bind(os.fspath(self._path))
        except OSError as e:
            listener.close()
            raise HomeUnusable(f"the control socket {self._path} cannot be made: {e}") from e
        finally:
            os.umask(old_umask)
        self._inode = self._path.stat().st_ino
        return listener

    def _is_gone(self) -> bool:
        return not os.path.lexists(self._path)

    def _remove_stale(self) -> None:
        """Remove the socket that a killed daemon left; never one that somebody listens on, nor
        what is no socket."""
        if not os.path.lexists(self._path):
            return
        if not self._path.is_socket():
            what = "a folder" if self._path.is_dir() else "a file"
            raise HomeUnusable(
                f"{self._path} is {what}, no socket: the control socket cannot be there",
                hint="Remove it, or move it away.",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(os.fspath(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
            except OSError as e:
                raise HomeUnusable(f"the control socket {self._path} cannot be made: {e}") from e
            else:
                raise AlreadyRunning(
                    f"another daemon, of another home, listens on {self._path}",
                    hint="Give this one a socket of its own: MOSHID_SOCKET, or --socket.",
                )

    def _remove_ours(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid != os.getuid():
            log.warning("refused a connection of another user", extra={"peer_uid": uid})
            writer.close()
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            refusal = TooManyRequests(f"{CONNECTIONS_MAX} clients are connected already")
            writer.write(encode(error_reply(None, refusal)))
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await Connection(reader, writer, self._dispatcher).run()
        except* asyncio.CancelledError:
            log.debug("connection ended by the daemon's stop")
        except* Exception:
            log.exception("a connection failed unexpectedly")
        finally:
            self._connections.discard(task)
