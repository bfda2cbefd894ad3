"""The download job as clients see it, field for field as the contract names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from moshid.downloads.states import FileState, JobState
from moshid.downloads.terms import Priority
from moshid.errors import MoshidError


class JobError(msgspec.Struct, frozen=True):
    """Why a job paused, failed, or is not getting anywhere at the moment."""

    message: str
    kind: str
    hint: str
    retryable: bool

    @classmethod
    def of(cls, error: MoshidError) -> JobError:
        """The part of an error that clients need."""
        return cls(error.message, error.kind, error.hint, error.retryable)


class JobFile(msgspec.Struct):
    """One file. ``digest``: 64 hex digits of SHA-256, or the 40 of a git blob id."""

    path: str
    size: int
    digest: str
    state: FileState = FileState.QUEUED
    bytes_done: int = 0
    chunks_total: int = 0
    chunks_done: int = 0


class Job(msgspec.Struct):
    """A download job. ``commit`` is empty until the Hub has resolved the revision.

    bytes_fetched counts what came over the line; bytes_rescued what was on disk already;
    bytes_refetched what had to come twice. ``eta_s`` is None while nothing comes; ``limit_bps`` is
    the job's own, in bytes per second; ``output``, where the file of a URL goes.
    """

    id: str
    repo: str
    revision: str
    commit: str = ""
    profile: str = "auto"
    state: JobState = JobState.QUEUED
    files: list[JobFile] = []
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_fetched: int = 0
    bytes_rescued: int = 0
    bytes_refetched: int = 0
    chunks_corrupt: int = 0
    retries: int = 0
    connections: int = 0
    rate_bps: float = 0.0
    eta_s: float | None = None
    error: JobError | None = None
    priority: Priority = Priority.NORMAL
    limit_bps: int | None = None
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready picture of the job now."""
        picture: dict[str, Any] = msgspec.to_builtins(self)
        return picture

    def copy(self) -> Job:
        """The job as it is now; later changes do not show in it."""
        return msgspec.convert(self.to_json(), Job)


def by_blob(files: Sequence[JobFile]) -> list[list[JobFile]]:
    """The files by what they show, the smallest first."""
    blobs: dict[str, list[JobFile]] = {}
    for file in sorted(files, key=lambda f: f.size):
        blobs.setdefault(file.digest, []).append(file)
    return list(blobs.values())


class FileReport(msgspec.Struct):
    """What verification found in one file. ``ok``: what is there is right; ``bad_chunks``: indices,
    where chunks are known; ``mended_chunks``: those that were bad before a repair;
    ``missing_bytes``: what has not come yet, of a file that is not all there."""

    path: str
    size: int
    digest: str
    ok: bool
    bad_chunks: list[int] = []
    missing: bool = False
    mended_chunks: list[int] = []
    missing_bytes: int = 0


class VerifyReport(msgspec.Struct):
    """What verification found, and what a repair fetched; ``repaired_chunks``: how many came out
    otherwise than they had been; ``state``: the job's, None where there is no job."""

    ok: bool
    files: list[FileReport]
    repaired_bytes: int = 0
    repaired_chunks: int = 0
    state: JobState | None = None

    def is_damaged(self) -> bool:
        """Whether there is something for a repair: wrong content, or a file that had come and is
        gone. What an unfinished job has not brought yet is for the job."""
        if self.state in (None, JobState.DONE):
            return not self.ok
        return any(not (f.ok or f.missing) for f in self.files)

    def after(self, before: VerifyReport) -> VerifyReport:
        """This report, which knows of the chunks that were bad ``before`` the repair."""
        bad = {f.path: f.bad_chunks for f in before.files}
        for file in self.files:
            if file.ok:
                file.mended_chunks = bad.get(file.path, [])
        return self
