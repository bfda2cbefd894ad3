"""One talk's facts, and how they are told. Owns the contract's status object."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from moshid.errors import MoshidError
from moshid.talk.request import TalkRequest
from moshid.talk.states import TalkState
from moshid.talk.transcript import Transcript

STAGES: Final = ("encode", "step", "decode")
"""What the audio worker times of each frame."""


@dataclass(slots=True)
class Talk:
    """One talk. Its inbox holds what happened to it: ``(what, data)``."""

    session: str
    request: TalkRequest
    owner: str
    seed: int
    transcript: Transcript
    state: TalkState = TalkState.STARTING
    model: str | None = None
    epoch: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Any] | None = None
    reason: str | None = None
    error: MoshidError | None = None
    inbox: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)
    started: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    opening: asyncio.Task[None] | None = None
    """Brings it to where it listens; cancelled by a stop that comes before."""


def idle_status() -> dict[str, Any]:
    """The contract's talk status while there is none."""
    return {
        "session": None,
        "state": TalkState.IDLE.value,
        "frames": 0,
        "seconds": 0.0,
        "lagged_frames": 0,
        "underruns": 0,
        "overruns": 0,
        "latency_ms": {"p50": None, "p95": None},
        "stage_ms": {stage: {"p50": None, "p95": None} for stage in STAGES},
        "devices": None,
        "echo_cancel": False,
        "model": None,
        "engine": None,
        "seed": None,
        "owner": None,
        "transcript_file": None,
        "reason": None,
        "error": None,
    }


def describe(talk: Talk) -> dict[str, Any]:
    """The contract's status of a talk."""
    status = idle_status()
    status |= {name: talk.stats[name] for name in status.keys() & talk.stats.keys()}
    error = talk.error
    return status | {
        "session": talk.session,
        "state": talk.state.value,
        "devices": talk.devices,
        "model": talk.model,
        "engine": talk.request.engine,
        "seed": talk.seed,
        "owner": talk.owner,
        "transcript_file": str(talk.transcript.path) if talk.transcript.path else None,
        "reason": talk.reason,
        "error": None if error is None else {"message": error.message, **error.to_data()},
    }
