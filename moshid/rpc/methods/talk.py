"""``talk.*``: start, stop, status."""

from __future__ import annotations

from typing import Any

from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, Params
from moshid.talk.request import TalkRequest


class TalkStartParams(TalkRequest, Params):
    """See docs/rpc.md; everything may be left out."""


async def start(app: App, caller: Caller, p: TalkStartParams) -> dict[str, Any]:
    """Start a talk and wait until it listens.

    With ``ensure`` a missing model is downloaded and loaded first (over 1 GB only with
    ``confirm``, else ``talk.confirm_download``). The talk belongs to this connection and stops
    with it, unless ``detach``. Result: ``{session: <talk.status>, seed}``. Errors: ``talk.busy``,
    ``model.not_found``, ``audio.no_device``, ``audio.bad_file``, ...
    """
    answer = await app.talk.start(p, owner=caller.connection.client)
    if not p.detach:
        session = answer["session"]["session"]
        caller.connection.on_close(lambda: app.talk.owner_gone(session))
    return answer


async def stop(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Stop the talk and wait for its end.

    Result: its final status. Errors: ``talk.none``.
    """
    return await app.talk.stop()


async def status(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Tell how the talk is.

    Result: ``{session, state, frames, seconds, lagged_frames, underruns, overruns, latency_ms,
    stage_ms, devices, echo_cancel, model, engine, seed, owner, transcript_file, reason, error}``;
    ``session`` is null and ``state`` idle when there is none.
    """
    return app.talk.status()


METHODS: list[Method[App]] = [
    Method("talk.start", TalkStartParams, start),
    Method("talk.stop", NoParams, stop),
    Method("talk.status", NoParams, status),
]
