"""Writes a quantised copy while the weights are being quantised. Owns its atomicity.

A thread of its own takes finished tensors, so that loading waits for no disk. The copy gets its
name when all of it is durable; whatever goes wrong ends the copy, never the load. Knows nothing of
MLX: it is given memory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.model import quantised_store, safetensors_header
from moshid.model.quantised_store import Source
from moshid.model.safetensors_header import TensorFacts

log = logging.getLogger(__name__)

_NO_DIGEST: Final = "0" * 32
_MARGIN_MIN_BYTES: Final = 256 * 1024 * 1024
_MARGIN_MAX_BYTES: Final = 10 * 10**9
_MARGIN_SHARE: Final = 0.05
"""Of the volume is left free, between the two: a copy is a convenience, and macOS swaps there."""

_WRITE_BYTES: Final = 8 * 1024 * 1024

SYNC_BYTES: Final = 256 * 1024 * 1024
"""So much is written between two syncs: the last one, for which an unload waits, has little left,
and the system's memory does not fill with what is still to be written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: ``error`` says why there is no copy."""

    path: Path
    size_bytes: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Keep:
    """Where copies are kept; who is told of each end, in the writer's thread, and gets each that is
    begun."""

    folder: Path
    told: Callable[[Outcome], None] = lambda _outcome: None
    begun: Callable[[CopyWriter], None] = lambda _writer: None


class CopyWriter:
    """One copy. ``put`` every tensor, then ``finish``; ``outcome`` waits for its end."""

    def __init__(
        self, keep: Keep, source: Source, quality: str, tensors: Mapping[str, TensorFacts]
    ) -> None:
        self._told = keep.told
        self._begun = keep.begun
        self._path = path = quantised_store.copy_path(keep.folder, source, quality)
        self._source = source
        self._quality = quality
        self._tensors = dict(tensors)
        self._new = path.with_name(f"{path.name}.{os.getpid()}.new")
        self._queue: queue.SimpleQueue[tuple[str, memoryview] | bool] = queue.SimpleQueue()
        self._header_bytes = len(self._header(dict.fromkeys(self._tensors, _NO_DIGEST)))
        self._size_bytes = self._header_bytes + sum(t.size_bytes for t in tensors.values())
        self._error: str | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="quantised copy", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._begun(self)

    def put(self, name: str, view: memoryview) -> None:
        """Take a finished tensor, whose memory stays as it is; never blocks."""
        if self._thread.is_alive():
            self._queue.put((name, view))

    def finish(self) -> None:
        """That was all; never blocks."""
        self._queue.put(True)

    def abandon(self) -> None:
        """There will be no copy; waits until nothing is left of it."""
        self._given_up = True
        self._queue.put(False)
        self._thread.join()

    def outcome(self) -> Outcome:
        """Wait until the copy is durable, or has failed."""
        self._thread.join()
        return Outcome(self._path, self._size_bytes, self._error)

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end, but not for ever; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            for left in quantised_store.leftovers(self._path.parent):
                left.unlink(missing_ok=True)
            self._check_room()
            fd = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._write(fd):
                    self._new.replace(self._path)
                    _sync_folder(self._path.parent)
            finally:
                os.close(fd)
        except OSError as e:
            self._error = e.strerror or str(e)
            log.warning("no quantised copy is kept: %s", self._error)
        finally:
            with contextlib.suppress(OSError):
                self._new.unlink()
            self._drain()
        if not self._given_up:
            self._told(Outcome(self._path, self._size_bytes, self._error))

    def _write(self, fd: int) -> bool:
        """Write what comes; whether it all came and is durable."""
        digests = dict.fromkeys(self._tensors, _NO_DIGEST)
        offsets, unsynced_bytes = self._offsets(), 0
        while isinstance(item := self._queue.get(), tuple):
            if self._given_up:
                return False
            name, view = item
            digests[name] = quantised_store.digest(view)
            _write_at(fd, view, offsets[name])
            if (unsynced_bytes := unsynced_bytes + len(view)) >= SYNC_BYTES:
                os.fsync(fd)
                unsynced_bytes = 0
        if item is not True or _NO_DIGEST in digests.values():
            return False
        _write_at(fd, memoryview(self._header(digests)), 0)
        _sync(fd)
        return True

    def _offsets(self) -> dict[str, int]:
        at, offsets = self._header_bytes, {}
        for name, t in self._tensors.items():
            offsets[name] = at
            at += t.size_bytes
        return offsets

    def _header(self, digests: dict[str, str]) -> bytes:
        metadata = quantised_store.metadata_of(self._source, self._quality, digests)
        return safetensors_header.pack(self._tensors, metadata)

    def _check_room(self) -> None:
        disk = shutil.disk_usage(self._path.parent)
        if disk.free < self._size_bytes + margin_bytes(disk.total):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _drain(self) -> None:
        """Let go of the arrays that are still queued."""
        while not self._queue.empty():
            self._queue.get()


def margin_bytes(volume_bytes: int) -> int:
    """What a copy leaves free of a volume of this size."""
    share_bytes = round(_MARGIN_SHARE * volume_bytes)
    return max(_MARGIN_MIN_BYTES, min(_MARGIN_MAX_BYTES, share_bytes))


def _write_at(fd: int, view: memoryview, offset: int) -> None:
    while len(view):
        count = os.pwrite(fd, view[:_WRITE_BYTES], offset)
        view, offset = view[count:], offset + count


def _sync(fd: int) -> None:
    """Down to the disk: macOS's fsync stops at the drive's cache (network volumes have no more)."""
    if (full := getattr(fcntl, "F_FULLFSYNC", None)) is not None:
        try:
            fcntl.fcntl(fd, full)
        except OSError as e:
            if e.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(fd)


def _sync_folder(folder: Path) -> None:
    """As far as the volume syncs folders: the copy is whole by now, and its name may come late."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
