"""One talk's facts, and how they are told. Owns the contract's status object."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from moshid import __version__
from moshid.errors import MoshidError
from moshid.talk.keeping import Keeping
from moshid.talk.request import TalkRequest
from moshid.talk.states import TalkState

STAGES: Final = ("encode", "step", "decode")
"""What the audio worker times of each frame."""


@dataclass(slots=True)
class Talk:
    """One talk. Its inbox holds what happened to it: ``(what, data)``."""

    session: str
    request: TalkRequest
    owner: str
    seed: int
    kept: Keeping
    state: TalkState = TalkState.STARTING
    model: str | None = None
    quality: str | None = None
    epoch: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    devices: dict[str, Any] | None = None
    away: set[str] = field(default_factory=set)
    """Which of ``model`` and ``devices`` it has to wait for."""
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
        "late_frames": 0,
        "underruns": 0,
        "overruns": 0,
        "missed_ms": 0,
        "latency_ms": {"p50": None, "p95": None},
        "stage_ms": {stage: {"p50": None, "p95": None} for stage in STAGES},
        "drift_ppm": None,
        "devices": None,
        "echo_cancel": False,
        "echo": None,
        "controls": None,
        "interrupts": {"count": 0, "last_ms": None, "p50_ms": None},
        "recording": None,
        "verdict": None,
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
        "transcript_file": str(talk.kept.transcript_file) if talk.kept.transcript_file else None,
        "reason": talk.reason,
        "error": None if error is None else {"message": error.message, **error.to_data()},
    }


def facts(talk: Talk) -> dict[str, Any]:
    """What a recording says of its talk when it begins."""
    return {
        "session": talk.session,
        "version": __version__,
        "engine": talk.request.engine,
        "model": talk.model,
        "quality": talk.quality,
        "seed": talk.seed,
        "sampling": talk.request.sampling(talk.seed),
        "devices": talk.devices,
    }
