"""The resident model's states and which may follow which. Drawn in docs/architecture.md."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where the model is."""

    ABSENT = "absent"
    """Not on disk."""
    DOWNLOADING = "downloading"
    """On its way to the disk."""
    UNLOADED = "unloaded"
    """No process holds it."""
    LOADING = "loading"
    """A process reads it; also after its process died, until it stands again."""
    READY = "ready"
    """Loaded and warm."""
    BUSY = "busy"
    """In a talk."""
    UNLOADING = "unloading"
    """Its process is ending."""
    FAILED = "failed"
    """It could not be loaded, or its process died too often; status names the error."""


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ABSENT: frozenset({State.DOWNLOADING, State.UNLOADED, State.LOADING}),
    State.DOWNLOADING: frozenset({State.ABSENT, State.UNLOADED, State.LOADING}),
    State.UNLOADED: frozenset({State.ABSENT, State.DOWNLOADING, State.LOADING}),
    State.LOADING: frozenset({State.READY, State.FAILED, State.UNLOADING}),
    State.READY: frozenset({State.BUSY, State.LOADING, State.UNLOADING}),
    State.BUSY: frozenset({State.READY, State.LOADING, State.UNLOADING}),
    State.UNLOADING: frozenset({State.UNLOADED}),
    State.FAILED: frozenset(
        {State.ABSENT, State.DOWNLOADING, State.UNLOADED, State.LOADING, State.UNLOADING}
    ),
}

RESIDENT: Final = frozenset({State.LOADING, State.READY, State.BUSY, State.UNLOADING})
"""A process holds the model, or is about to."""


class ImpossibleTransition(AssertionError):
    """A fault of ours: the table does not allow this step."""


def check(old: State, new: State) -> None:
    """Refuse what the table does not allow; staying is always allowed.

    Raises:
        ImpossibleTransition: the step is not in the table.
    """
    if new is not old and new not in TRANSITIONS[old]:
        raise ImpossibleTransition(f"the model cannot go from {old} to {new}")
