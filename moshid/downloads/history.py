"""Which jobs are only remembered, and which of them are remembered no longer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from moshid.downloads.engine import Engine
from moshid.downloads.ledger import JobRow, Ledger
from moshid.downloads.states import JobState

KEPT: Final = 200
"""So many that are over are remembered: a list of them is some 250 kB, and read at once."""


async def surplus(engine: Engine, rows: Sequence[JobRow]) -> list[str]:
    """The oldest of the jobs that are over, but for the last ``KEPT``. What was asked for by its
    commit stays: no branch holds it, so that its job alone keeps a prune from it."""
    over = [row for row in rows if _is_over(row)]
    refs = [(row, await engine.ledger.call(Ledger.refs, row.id)) for row in over[:-KEPT]]
    return [row.id for row, named in refs if row.commit_hash not in named]


def _is_over(row: JobRow) -> bool:
    """Whether nothing of the job is left that it could go on with."""
    if row.state == JobState.FAILED:
        return not (row.bytes_fetched or row.bytes_rescued)
    return row.state in (JobState.DONE, JobState.CANCELLED)


async def strike(engine: Engine, job_ids: Collection[str]) -> None:
    """Forget jobs; what they brought stays where it is."""
    if job_ids:
        await engine.ledger.call(Ledger.delete_jobs, job_ids)
        await engine.disk.run(_unlink, [engine.tallies / job_id for job_id in job_ids])


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
