"""The states of a download job and of its files, and which may follow which.

Owns the two state machines; docs/architecture.md draws the table, a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a download job is."""

    QUEUED = "queued"
    PROBING = "probing"
    DOWNLOADING = "downloading"
    PAUSED = "paused"
    VERIFYING = "verifying"
    REPAIRING = "repairing"
    PUBLISHING = "publishing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FileState(StrEnum):
    """Where one file of a job is."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    REPAIRING = "repairing"
    PUBLISHING = "publishing"
    DONE = "done"
    FAILED = "failed"


_J = JobState
ACTIVE: Final = frozenset(
    {_J.PROBING, _J.DOWNLOADING, _J.VERIFYING, _J.REPAIRING, _J.PUBLISHING},
)
"""A task works on the job."""

FINISHED: Final = frozenset({_J.DONE, _J.FAILED, _J.CANCELLED})
"""Nothing more happens to the job by itself."""

_STOPS: Final = frozenset({_J.QUEUED, _J.PAUSED, _J.FAILED, _J.CANCELLED})
"""From every active state: back to the queue (the daemon stops), paused, failed, cancelled."""

TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    _J.QUEUED: frozenset({_J.PROBING, _J.PAUSED, _J.FAILED, _J.CANCELLED}),
    _J.PROBING: _STOPS | {_J.DOWNLOADING, _J.VERIFYING, _J.PUBLISHING},
    _J.DOWNLOADING: _STOPS | {_J.VERIFYING, _J.REPAIRING, _J.PUBLISHING},
    _J.VERIFYING: _STOPS | {_J.DOWNLOADING, _J.REPAIRING, _J.PUBLISHING},
    _J.REPAIRING: _STOPS | {_J.DOWNLOADING, _J.VERIFYING, _J.PUBLISHING},
    _J.PUBLISHING: _STOPS | {_J.DOWNLOADING, _J.VERIFYING, _J.REPAIRING, _J.DONE},
    _J.PAUSED: frozenset({_J.QUEUED, _J.CANCELLED}),
    _J.DONE: frozenset({_J.QUEUED}),
    _J.FAILED: frozenset({_J.QUEUED, _J.CANCELLED}),
    _J.CANCELLED: frozenset({_J.QUEUED}),
}
"""What may follow what. DONE → QUEUED: more files are wanted, or a repair."""


def may_follow(old: JobState, new: JobState) -> bool:
    """Whether ``new`` may come after ``old``; staying is always allowed."""
    return old is new or new in TRANSITIONS[old]


def of_files(states: Iterable[FileState]) -> JobState:
    """The state that a running job shows, from its files': the least far one wins."""
    present = set(states)
    if FileState.REPAIRING in present:
        return JobState.REPAIRING
    if present & {FileState.QUEUED, FileState.DOWNLOADING}:
        return JobState.DOWNLOADING
    if FileState.VERIFYING in present:
        return JobState.VERIFYING
    return JobState.PUBLISHING
