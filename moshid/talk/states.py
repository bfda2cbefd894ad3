"""A talk's states and which may follow which. The diagram stands in docs/architecture.md."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TalkState(StrEnum):
    """Where a talk stands."""

    IDLE = "idle"
    STARTING = "starting"
    LISTENING = "listening"
    RECOVERING = "recovering"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


TRANSITIONS: Final[dict[TalkState, frozenset[TalkState]]] = {
    TalkState.IDLE: frozenset({TalkState.STARTING}),
    TalkState.STARTING: frozenset({TalkState.LISTENING, TalkState.STOPPING}),
    TalkState.LISTENING: frozenset({TalkState.RECOVERING, TalkState.STOPPING}),
    TalkState.RECOVERING: frozenset({TalkState.LISTENING, TalkState.STOPPING}),
    TalkState.STOPPING: frozenset({TalkState.STOPPED, TalkState.FAILED}),
    TalkState.STOPPED: frozenset(),
    TalkState.FAILED: frozenset(),
}


def next_state(now: TalkState, then: TalkState) -> TalkState:
    """``then``, if the table allows it from ``now`` (or it is the same).

    Raises:
        ValueError: the table does not allow it.
    """
    if then is not now and then not in TRANSITIONS[now]:
        raise ValueError(f"a talk cannot go from {now} to {then}")
    return then
