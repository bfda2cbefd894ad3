"""The contract's ``model.status``: what is resident, how it does, how long it stays."""

from __future__ import annotations

from typing import Any, Final

from moshid.errors import MoshidError
from moshid.model.keeping import Keeping
from moshid.model.messages import plain
from moshid.model.residency import Residency

NO_STEP_MS: Final = {"p50": None, "p95": None, "p99": None}
"""Step times while none are known: the status keeps its shape."""


def describe(now: Residency, keeping: Keeping, why: str | None, about: str) -> dict[str, Any]:
    """The residency of the moment as JSON; ``why`` says why it is this quality, ``about`` which
    model the state is about."""
    loaded, stats = now.loaded, now.stats
    step_ms = (stats.step_ms if stats else None) or (loaded.step_ms if loaded else None)
    memory = stats.memory_bytes if stats else loaded.memory_bytes if loaded else None
    return {
        "state": now.state.value,
        "model": now.target.model if now.target else None,
        "quality": now.target.quality if now.target else None,
        "weights": str(now.target.paths.weights) if now.target else None,
        "memory_bytes": memory,
        "load_s": loaded.load_s if loaded else None,
        "warmup_s": loaded.warmup_s if loaded else None,
        "step_ms": plain(step_ms) if step_ms else NO_STEP_MS,
        "last_step": plain(now.last_step) if now.last_step else None,
        "last_fault": plain(now.last_fault) if now.last_fault else None,
        "keep_alive_s": keeping.keep_alive_s,
        "until": keeping.until,
        "pid": now.worker.pid if now.worker else None,
        "restarts": now.restarts,
        "error": _error(now.error),
        "progress": now.progress,
        "why": why,
        "about": about,
    }


def _error(error: MoshidError | None) -> dict[str, Any] | None:
    return None if error is None else {"message": error.message, **error.to_data()}
