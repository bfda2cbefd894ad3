"""``talk.*``: start, stop, status, set, trace."""

from __future__ import annotations

from typing import Any

import msgspec

from moshid.audio.request import ControlChanges
from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, Params
from moshid.talk.request import TalkRequest


class TalkStartParams(TalkRequest, Params):
    """See docs/rpc.md; everything may be left out."""


class TalkSetParams(ControlChanges, Params):
    """What is left out stays as it is."""


async def start(app: App, caller: Caller, p: TalkStartParams) -> dict[str, Any]:
    """Start a talk and wait until it listens.

    With ``ensure`` a missing model is downloaded and loaded first (over 1 GB only with
    ``confirm``, else ``talk.confirm_download``). The talk belongs to this connection and stops
    with it, unless ``detach``. ``keep_alive`` is how long the model stays after it, as
    in ``model.load``. A top-k of 0 draws from the whole vocabulary, a temperature of 0 takes the
    likeliest token. Result: ``{session: <talk.status>, seed}``. Errors: ``talk.busy``,
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

    Result: ``{session, state, frames, seconds, lagged_frames, late_frames, underruns, overruns,
    missed_ms, latency_ms, stage_ms, drift_ppm, devices, echo_cancel, echo, controls, interrupts,
    recording, verdict, model, engine, seed, owner, transcript_file, reason, error}``;
    ``session`` is null and ``state`` idle when there is none. ``echo`` is null or ``{why,
    suppressor, noise_suppression, auto_gain}``, where echo is cancelled with ``delay_ms``,
    ``erle_db``, ``linear_erle_db`` and ``coupling_db``; ``why`` is ``room``, ``headphones``,
    ``files`` or ``asked``. ``drift_ppm`` is how much faster the speaker's clock runs than the
    microphone's, null for one clock or in the first seconds. ``controls`` is as ``talk.set``
    answers; ``interrupts`` is ``{count, last_ms, p50_ms}``: how soon Moshi fell silent when the
    user began to speak.
    """
    return app.talk.status()


async def change(app: App, _caller: Caller, p: TalkSetParams) -> dict[str, Any]:
    """Mute, push to talk, set the volume or pause, while the talk goes on.

    ``muted``: the model hears silence. ``push_to_talk``: it hears only while ``talking``.
    ``volume``: a factor on what is played. ``paused``: it hears nothing and waits, nothing is
    played. Without parameters it only tells. Result: ``{session, controls: {muted, push_to_talk,
    talking, volume, paused, hears}}``. Errors: ``talk.none``.
    """
    return await app.talk.set(msgspec.structs.asdict(p))


async def trace(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Tell where the time of the newest frames went, in this talk or else in the last one.

    Result: ``{session, spans}``, a span being ``[stage, frame, at_us, duration_us]``: ``ahead``
    (its first half is encoded while the second is captured, where there is time), ``queue``,
    ``encode``, ``step``, ``decode`` or ``play``; microseconds of the monotonic clock; the last
    minute. ``session`` is null when there has been no talk.
    """
    return await app.talk.trace()


METHODS: list[Method[App]] = [
    Method("talk.start", TalkStartParams, start),
    Method("talk.stop", NoParams, stop),
    Method("talk.status", NoParams, status),
    Method("talk.set", TalkSetParams, change),
    Method("talk.trace", NoParams, trace),
]
