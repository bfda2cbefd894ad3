"""Which of a job's files are where they belong already: under their path, with the right content.

A snapshot shows a file by a link to its blob, or the file lies there itself: so huggingface_hub
has it where there are no links, and so a copy of a cache may. Owns that look; fetches and links
nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.downloads.digests import file_matches
from moshid.downloads.engine import Engine
from moshid.downloads.job import Job, JobFile
from moshid.downloads.ledger import Ledger
from moshid.downloads.regular import regular
from moshid.downloads.shelf import Shelf
from moshid.downloads.volume import nearest
from moshid.errors import DownloadError

SHORT_BYTES: Final = 100
"""So long may a name be everywhere; most file systems take 255 bytes, encrypted folders 143."""

SHOWN: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a blob that several files may show. ``alone``: the files that are right
    where they lie, without it; ``plain``: what lies in place of links to it, the right first."""

    blob_is_right: bool
    alone: list[JobFile]
    plain: list[Path]


async def lacking(engine: Engine, job: Job) -> list[JobFile]:
    """The job's files that are not where they belong, as far as their sizes tell.

    Raises:
        DownloadError: two of them cannot both be there, or one cannot be there at all.
    """
    return await engine.on_disk(_lacking, engine.shelf, job)


async def find(
    engine: Engine, job: Job, files: Sequence[JobFile], reading: Callable[[], None]
) -> Found:
    """Look for the content that ``files`` show; each digest is checked once, and ``reading`` told
    before."""
    shelf, etag = engine.shelf, files[0].digest
    blob = shelf.blob(job.repo, etag)
    verdicts: dict[Path, bool] = {}
    alone = []
    for file in files:
        path = await engine.on_disk(shelf.content, job.repo, job.commit, file.path, etag)
        if path is None or path == blob:
            continue
        if path not in verdicts:
            verdicts[path] = await _is_right(engine, path, file, reading)
        if verdicts[path]:
            alone.append(file)
    right = len(alone) < len(files) and await _is_right(engine, blob, files[0], reading)
    return Found(right, alone, sorted(verdicts, key=lambda p: not verdicts[p]))


async def _is_right(engine: Engine, path: Path, file: JobFile, reading: Callable[[], None]) -> bool:
    stat = await engine.on_disk(regular, path)
    if stat is None or stat.st_size != file.size:
        return False
    facts = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if await engine.ledger.call(Ledger.is_checked, *facts):
        return True
    reading()
    if not await engine.on_disk(file_matches, path, file.digest, file.size):
        log.warning("a cached file is damaged", extra={"path": file.path})
        return False
    await engine.ledger.call(Ledger.set_checked, *facts)
    return True


def _lacking(shelf: Shelf, job: Job) -> list[JobFile]:
    _check_lengths(shelf, job)
    _check_names(shelf, job)
    return [f for f in job.files if not _has_its_size(shelf, job, f)]


def _check_lengths(shelf: Shelf, job: Job) -> None:
    """A folder that is not there yet hides that a name below it can never be."""
    if not job.files:
        return
    folder = nearest(shelf.blob(job.repo, job.files[0].digest).parent)
    others = "Cancel the job, and fetch the other files by their names: --file."
    commit = f"Cancel the job, and ask for its commit: --revision {job.commit}."
    for path, hint in [*((f.path, others) for f in job.files), (job.revision, commit)]:
        for name in path.split("/"):
            size_bytes = len(name.encode("utf-8", "surrogatepass"))
            if size_bytes > SHORT_BYTES and not _fits(folder, name):
                shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
                raise DownloadError(
                    f"a name is too long for where {shelf.name} is: {shown} ({size_bytes} bytes)",
                    hint=hint,
                )


def _fits(folder: Path, name: str) -> bool:
    try:
        os.lstat(folder / name)
    except OSError as e:
        return e.errno != errno.ENAMETOOLONG
    return True


def _check_names(shelf: Shelf, job: Job) -> None:
    """Most Macs' file systems take ``A.txt`` and ``a.txt`` for one; Hubs do not."""
    alike: dict[str, JobFile] = {}
    for file in job.files:
        other = alike.setdefault(unicodedata.normalize("NFC", file.path).casefold(), file)
        if other.digest == file.digest:
            continue
        found = [shelf.content(job.repo, job.commit, f.path, f.digest) for f in (other, file)]
        if None not in found and os.path.samefile(*filter(None, found)):
            raise DownloadError(
                f"{other.path} and {file.path} are one name in {shelf.name}",
                hint="Keep it (HF_HOME) where upper and lower case differ; or cancel the job, and "
                "fetch one of them: --file.",
            )


def _has_its_size(shelf: Shelf, job: Job, file: JobFile) -> bool:
    content = shelf.content(job.repo, job.commit, file.path, file.digest)
    stat = None if content is None else regular(content)
    return stat is not None and stat.st_size == file.size
