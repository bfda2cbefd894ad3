"""Reads again what is in the cache or in progress, and names what is bad. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from moshid.downloads.cache import Cache
from moshid.downloads.digests import digest_of, file_matches, prefix_hasher
from moshid.downloads.engine import Engine
from moshid.downloads.job import FileReport, Job, JobFile, VerifyReport
from moshid.downloads.ledger import Ledger
from moshid.downloads.plan import Chunk, bytes_done
from moshid.downloads.regular import regular
from moshid.downloads.remote import RemoteFile
from moshid.downloads.written import open_source
from moshid.errors import DownloadOffline


async def verify_job(engine: Engine, job: Job) -> VerifyReport:
    """Hash every file: what is shown under its path against its digest, a partial one against the
    ledger."""
    reports = [await _verify(engine, job, f) for f in job.files]
    state = job.state if job.id else None
    return VerifyReport(ok=all(r.ok for r in reports), files=reports, state=state)


def cached_job(cache: Cache, repo: str, revision: str = "main") -> Job | None:
    """What another tool left in the cache, as a job without an id. A file that is no link to a blob
    has no digest here. Blocking."""
    found = cache.entries(repo, revision)
    if not found:
        return None
    files = [JobFile(p, _size_of(f), cache.etag_of(f)) for p, f in found.items()]
    commit = cache.commit_of(repo, revision) or ""
    return Job(id="", repo=repo, revision=revision, commit=commit, files=files)


async def ask_digests(engine: Engine, job: Job) -> None:
    """Ask the Hub for the digests that the cache does not tell. What the repository does not have
    is none of the job's.

    Raises:
        DownloadError: the Hub cannot be asked.
    """
    for file in [f for f in job.files if not f.digest]:
        if engine.offline:
            raise DownloadOffline(
                f"HF_HUB_OFFLINE is set, and nobody here knows the digest of {file.path}",
                hint="Unset HF_HUB_OFFLINE and restart the daemon: only the Hub tells it.",
            )
        found = await engine.hub.head(job.repo, job.commit, file.path)
        if isinstance(found, RemoteFile):
            file.digest, file.size = found.etag, found.size
        else:
            job.files.remove(file)


async def _verify(engine: Engine, job: Job, file: JobFile) -> FileReport:
    shelf = engine.shelf
    blob, partial = shelf.blob(job.repo, file.digest), shelf.partial(file.digest)
    shown = await engine.on_disk(shelf.content, job.repo, job.commit, file.path, file.digest)
    report = FileReport(file.path, file.size, file.digest, ok=False, missing=shown is None)
    chunks = await engine.ledger.call(Ledger.chunks, shelf.key(file.digest))
    if shown is not None:
        report.ok = await _is_right(engine, shown, file)
    if report.ok or (shown != blob and await _is_right(engine, blob, file)):
        return report  # right, or to be shown again
    there = [p for p in (blob, shown) if p and await engine.on_disk(regular, p) is not None]
    if there:
        report.bad_chunks = await engine.on_disk(_bad_chunks, there[0], chunks)
    elif await engine.on_disk(regular, partial) is not None:
        await _verify_partial(engine, partial, file, chunks, report)
    else:
        report.missing_bytes = file.size
    return report


async def _verify_partial(
    engine: Engine, partial: Path, file: JobFile, chunks: Sequence[Chunk], report: FileReport
) -> None:
    report.bad_chunks = await engine.on_disk(_bad_chunks, partial, chunks)
    report.ok, report.missing = not report.bad_chunks, False
    report.missing_bytes = max(0, file.size - bytes_done(chunks))
    if report.ok and all(c.done for c in chunks):
        report.ok = await engine.on_disk(file_matches, partial, file.digest, file.size)
        if report.ok:  # a ledger that was lost knows no chunks
            report.missing_bytes = 0


async def _is_right(engine: Engine, path: Path, file: JobFile) -> bool:
    if await engine.on_disk(regular, path) is None:
        return False
    if await engine.on_disk(file_matches, path, file.digest, file.size):
        return True
    await engine.ledger.call(Ledger.forget_checked, str(path))
    return False


def _size_of(path: Path) -> int:
    found = regular(path)
    return found.st_size if found else 0


def _bad_chunks(path: Path, chunks: Sequence[Chunk]) -> list[int]:
    """Indices of the chunks of which bytes are not what they were when they came. Blocking."""
    fd = open_source(path)
    try:
        return [c.index for c in chunks if _is_bad(fd, c)]
    finally:
        os.close(fd)


def _is_bad(fd: int, chunk: Chunk) -> bool:
    if chunk.done:
        return digest_of(fd, chunk) != chunk.digest
    return prefix_hasher(fd, chunk) is None


async def forget_bad(engine: Engine, report: VerifyReport) -> int:
    """Strike the bad chunks from the ledger, so that the next run of the job fetches them again;
    returns how many."""
    for file in report.files:
        key = engine.shelf.key(file.digest)
        chunks = await engine.ledger.call(Ledger.chunks, key)
        bad = [c for c in chunks if c.index in set(file.bad_chunks)]
        for chunk in bad:
            chunk.forget()
        await engine.ledger.call(Ledger.record, key, bad)
    return sum(len(f.bad_chunks) for f in report.files)
