"""Reads again what is in the cache or in progress, and names what is bad. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moshid.downloads.cache import Cache
from moshid.downloads.digests import digest_of, file_matches, prefix_hasher
from moshid.downloads.engine import Engine
from moshid.downloads.job import FileReport, Job, JobFile, VerifyReport
from moshid.downloads.ledger import Ledger
from moshid.downloads.plan import Chunk, bytes_done


async def verify_job(engine: Engine, job: Job) -> VerifyReport:
    """Hash every file: a cached one against its digest, a partial one against the ledger."""
    reports = [await _verify(engine, job.repo, f) for f in job.files]
    state = job.state if job.id else None
    return VerifyReport(ok=all(r.ok for r in reports), files=reports, state=state)


def cached_job(cache: Cache, repo: str, revision: str = "main") -> Job | None:
    """What another tool left in the cache, as a job without an id. Blocking."""
    found = cache.files(repo, revision)
    if not found:
        return None
    files = [JobFile(p, f.stat().st_size, cache.etag_of(f)) for p, f in found.items()]
    commit = cache.commit_of(repo, revision) or ""
    return Job(id="", repo=repo, revision=revision, commit=commit, files=files)


async def _verify(engine: Engine, repo: str, file: JobFile) -> FileReport:
    shelf = engine.shelf
    blob, partial = shelf.blob(repo, file.digest), shelf.partial(file.digest)
    report = FileReport(file.path, file.size, file.digest, ok=False)
    chunks = await engine.ledger.call(Ledger.chunks, shelf.key(file.digest))
    if await engine.on_disk(blob.exists):
        report.ok = await engine.on_disk(file_matches, blob, file.digest, file.size)
        if not report.ok:
            await engine.ledger.call(Ledger.forget_checked, str(blob))
            report.bad_chunks = await engine.on_disk(_bad_chunks, blob, chunks)
    elif await engine.on_disk(partial.exists):
        report.bad_chunks = await engine.on_disk(_bad_chunks, partial, chunks)
        report.ok = not report.bad_chunks
        report.missing_bytes = file.size - bytes_done(chunks)
        if report.ok and all(c.done for c in chunks):
            report.ok = await engine.on_disk(file_matches, partial, file.digest, file.size)
            if report.ok:  # a ledger that was lost knows no chunks
                report.missing_bytes = 0
    else:
        report.missing, report.missing_bytes = True, file.size
    return report


def _bad_chunks(path: Path, chunks: Sequence[Chunk]) -> list[int]:
    """Indices of the chunks of which bytes are not what they were when they came. Blocking."""
    with path.open("rb") as content:
        return [c.index for c in chunks if _is_bad(content.fileno(), c)]


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
