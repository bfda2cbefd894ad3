"""Calls to the worker of the resident model: only once it is ready, and told what it died of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moshid.errors import ModelNotLoaded, WorkerDied
from moshid.model.residency import Residency
from moshid.model.states import State
from moshid.supervisor import WorkerProcess


def ready_worker(residency: Residency) -> WorkerProcess:
    """The worker, whose model may be in a talk.

    Raises:
        ModelNotLoaded: no model is ready.
    """
    worker = residency.worker
    if worker is None or residency.state not in (State.READY, State.BUSY):
        raise ModelNotLoaded(f"no model is ready: it is {residency.state}")
    return worker


async def ask(
    residency: Residency,
    worker: WorkerProcess,
    method: str,
    params: dict[str, Any],
    fds: Sequence[int] = (),
) -> dict[str, Any]:
    """Call ``worker``, which is ``residency``'s, or was; ``fds`` are sent along.

    Raises:
        MoshidError: what it answered or, if it died of the call, what of.
    """
    try:
        return await worker.call(method, params, fds=fds)
    except WorkerDied as e:
        raise await residency.why(worker) from e
