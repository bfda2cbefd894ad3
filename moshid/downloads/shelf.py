"""Where a job's finished files go, and their partial files until then: the seam between the Hugging
Face cache and the path that a user names. Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Shelf(Protocol):
    """A place for files by digest. All methods but ``key``, ``blob`` and ``partial`` read or write
    the disk, blocking."""

    @property
    def shared(self) -> bool:
        """Whether jobs share what lies there, so that one may not delete what another wants."""

    @property
    def name(self) -> str:
        """What to call it in a message."""

    @property
    def check_hint(self) -> str:
        """What to check when it cannot be used."""

    @property
    def mismatch_hint(self) -> str | None:
        """What to do when the bytes never have the digest; None: as the error says."""

    @property
    def doubts_max(self) -> int:
        """So often is each chunk fetched again when the whole is wrong and none can be blamed."""

    def key(self, etag: str) -> str:
        """By what the ledger knows the partial file of a digest."""

    def blob(self, repo: str, etag: str) -> Path:
        """Where content of that digest belongs."""

    def partial(self, etag: str) -> Path:
        """The partial file of a digest, on the same volume."""

    def content(self, repo: str, commit: str, path: str, etag: str) -> Path | None:
        """The regular file that is found under its path: the blob, or what lies or leads elsewhere
        in its place."""

    def seed(self, repo: str, etag: str, size: int, plain: Sequence[Path] = ()) -> bool:
        """Make a partial file out of what is there, so that only bad chunks are fetched again;
        ``plain``: besides the blob, what lies where it should be shown."""

    def publish(self, repo: str, commit: str, path: str, etag: str, partial: Path) -> None:
        """Move a verified partial file to its place."""

    def link(self, repo: str, commit: str, path: str, etag: str, twin: str | None = None) -> None:
        """Show a blob under its path; ``twin``: one under which it is shown already."""

    def write_ref(self, repo: str, revision: str, commit: str) -> None:
        """Say which commit a branch or tag is."""
