"""A job's files as the ledger remembers them, so that a restart, a cancel or a new want shows them
as they are. Owns nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from moshid.downloads.engine import Engine
from moshid.downloads.job import Job, JobFile
from moshid.downloads.ledger import FileRow, Ledger
from moshid.downloads.plan import bytes_done
from moshid.downloads.states import FileState


async def load_files(engine: Engine, job: Job) -> None:
    """Bring the job's files and sums up to what the ledger knows."""
    known = {(f.path, f.digest, f.size): f for f in job.files}
    job.files = []
    for row in await engine.ledger.call(Ledger.files, job.id):
        file = known.get((row.path, row.etag, row.size)) or await _load_file(engine, job.repo, row)
        file.state = FileState(row.state)
        if file.state is FileState.DONE:
            file.bytes_done = file.size
        job.files.append(file)
    job.bytes_total = sum(f.size for f in job.files)
    job.bytes_done = sum(f.bytes_done for f in job.files)


async def _load_file(engine: Engine, repo: str, row: FileRow) -> JobFile:
    """A file with what the ledger knows of its blob, if that is still there."""
    file = JobFile(row.path, row.size, row.etag)
    shelf = engine.shelf
    if await engine.disk.run(_exists, shelf.blob(repo, row.etag), shelf.partial(row.etag)):
        chunks = await engine.ledger.call(Ledger.chunks, shelf.key(row.etag))
        file.bytes_done = bytes_done(chunks)
        file.chunks_total, file.chunks_done = len(chunks), sum(c.done for c in chunks)
    return file


def _exists(*paths: Path) -> bool:
    """Whether one of them is there, as far as can be seen. Blocking."""
    return any(os.path.exists(p) for p in paths)
