"""Jobs at rest: why they stopped, what a paused one waits for, what a cancelled one leaves."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from moshid.downloads.engine import Engine
from moshid.downloads.job import Job
from moshid.downloads.ledger import Counters, Ledger
from moshid.downloads.remembered import load_files
from moshid.downloads.states import FileState, JobState
from moshid.downloads.volume import allocated_bytes, free_bytes_at, is_one_volume, room_for
from moshid.errors import (
    DiskFull,
    DownloadNotFound,
    DownloadOffline,
    InternalError,
    MoshidError,
    PartialLocked,
    VolumeMissing,
)

log = logging.getLogger(__name__)

PAUSING = (DiskFull, VolumeMissing, PartialLocked)
"""Errors that pause a job, which then goes on by itself."""

_KINDS = {e.kind for e in PAUSING}


def is_waiting(job: Job) -> bool:
    """Whether the job is paused by an error that may go away."""
    return job.state is JobState.PAUSED and job.error is not None and job.error.kind in _KINDS


async def may_go_on(engine: Engine, job: Job, margin_bytes: int) -> bool:
    """Whether what paused the job is over."""
    if not await engine.disk.run(engine.volume.present):
        return False
    unfinished = [f for f in job.files if f.state is not FileState.DONE]
    partials = [(engine.shelf.partial(f.digest), f.size) for f in unfinished]
    if any([await engine.disk.run(_is_locked, path) for path, _size in partials]):
        return False
    need = sum([max(0, s - await engine.disk.run(allocated_bytes, p)) for p, s in partials])
    free = await engine.disk.run(engine.volume.free_bytes)
    if need and free < room_for(need, margin_bytes):
        return False
    blobs = [(engine.shelf.blob(job.repo, f.digest), f.size) for f in unfinished]
    return await engine.disk.run(_have_room, blobs, engine.shelf.partial("x").parent)


def _have_room(blobs: Sequence[tuple[Path, int]], partials: Path) -> bool:
    """Whether there is room for these, where the user keeps their repository on another volume than
    their partial files are on."""
    elsewhere = [(b, size) for b, size in blobs if not is_one_volume(b.parent, partials)]
    return all(free_bytes_at(b.parent) >= sum(s for _b, s in elsewhere) for b, _s in elsewhere)


def cause(error: BaseException, *, offline: bool) -> MoshidError:
    """The error to tell, out of what a run raised: one of ours, if there is one among them."""
    leaves = list(_leaves(error))
    ours = [e for e in leaves if isinstance(e, MoshidError)]
    if not ours:
        log.error("a download failed", exc_info=leaves[0])
        return InternalError("the download met an unexpected fault")
    if offline and isinstance(ours[0], DownloadNotFound):
        return DownloadOffline(f"HF_HUB_OFFLINE is set, and the cache lacks: {ours[0].message}")
    return ours[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for child in error.exceptions:
            yield from _leaves(child)
    else:
        yield error


async def give_up(engine: Engine, job: Job) -> None:
    """Delete the partial files of a job that no other unfinished job wants, and count anew."""
    kept = set[str]()
    if engine.shelf.shared:
        kept = await engine.ledger.call(Ledger.etags_wanted_besides, job.id)
    for file in job.files:
        if file.digest in kept or file.state is FileState.DONE:
            continue
        if await engine.on_disk(_delete, engine.shelf.partial(file.digest)):
            await engine.ledger.call(Ledger.forget_blob, engine.shelf.key(file.digest))
    await engine.on_disk((engine.tallies / job.id).unlink, missing_ok=True)
    job.files = []
    job.bytes_fetched = job.bytes_rescued = job.bytes_refetched = 0
    job.chunks_corrupt = job.retries = 0
    await engine.ledger.call(Ledger.count, Counters(job.id, 0, 0, 0, 0))
    await load_files(engine, job)


async def forget_given_up(engine: Engine, job: Job) -> None:
    """What an ended job never found, or was cancelled, is not wanted along with what is now."""
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        cancelled = job.state is JobState.CANCELLED
        await engine.ledger.call(Ledger.forget_wants, job.id, resolved=cancelled)
    await ask_anew(engine, job)


async def ask_anew(engine: Engine, job: Job) -> None:
    """What may have stopped a job is a size that was told wrongly."""
    full = job.error is not None and job.error.kind == DiskFull.kind
    if job.state in (JobState.FAILED, JobState.CANCELLED) or full:
        await engine.ledger.call(Ledger.unresolve, job.id)


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # not there, or not to be written: the job itself will say which
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _delete(path: Path) -> bool:
    """Delete a partial file, unless another home is writing it."""
    if _is_locked(path):
        return False
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return True
