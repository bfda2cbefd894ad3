"""The rows of the ledger as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Want:
    """What a caller asked for: named files, or (none named) what a quality needs."""

    quality: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    """The job's counts that outlive the process."""

    job_id: str
    bytes_fetched: int
    bytes_rescued: int
    chunks_corrupt: int
    retries: int


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the ledger keeps it. ``error``: JSON or None; ``created_s``: since the epoch;
    ``priority``: 1 high, 0 normal, -1 low; ``limit_bps``: bytes per second."""

    id: str
    endpoint: str
    repo: str
    revision: str
    commit_hash: str | None
    profile: str
    chunk_bytes: int | None
    workers: int | None
    state: str
    error: str | None = None
    bytes_fetched: int = 0
    bytes_rescued: int = 0
    chunks_corrupt: int = 0
    retries: int = 0
    created_s: float = 0.0
    priority: int = 0
    limit_bps: int | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a job; ``etag`` is its digest."""

    path: str
    etag: str
    size: int
    state: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Where and when a blob's chunks were last trusted (see schema.sql)."""

    etag: str
    size: int
    chunk_bytes: int
    boot_id: str
    device: int
    inode: int
    digest_kind: str = "sha256"

    @property
    def plan(self) -> tuple[int, int, str]:
        """What the chunks' sizes and digests hang on."""
        return self.size, self.chunk_bytes, self.digest_kind
