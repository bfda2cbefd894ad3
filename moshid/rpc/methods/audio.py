"""``audio.*``: the sound devices."""

from __future__ import annotations

from typing import Any

from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams


async def devices(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """List the sound devices that there are right now.

    Result: ``{input: [...], output: [...]}``, each ``{index, name, hostapi, channels,
    default_rate, default}``.
    """
    return await app.audio.devices()


METHODS: list[Method[App]] = [Method("audio.devices", NoParams, devices)]
