"""How a job fetches: profile, chunk size, workers. Owns what a later start changes of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from moshid.downloads.ledger_rows import JobRow


@dataclass(frozen=True, slots=True)
class Manner:
    """What a caller names of it; None: no word."""

    profile: str | None = None
    chunk_bytes: int | None = None
    workers: int | None = None

    def over(self, row: JobRow) -> JobRow:
        """The job, in this manner as far as it says so; a profile comes with its own numbers."""
        if self.profile is not None:
            row = replace(row, profile=self.profile, chunk_bytes=None, workers=None)
        if self.chunk_bytes is not None:
            row = replace(row, chunk_bytes=self.chunk_bytes)
        if self.workers is not None:
            row = replace(row, workers=self.workers)
        return row


AS_IT_IS: Final = Manner()
