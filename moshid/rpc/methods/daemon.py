"""``daemon.*``: hello, status, stop."""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Annotated, Any

import msgspec
from huggingface_hub import constants

from moshid import MIN_PROTOCOL, PROTOCOL, __version__
from moshid.errors import ProtocolMismatch
from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, Params


class HelloParams(Params):
    """``protocol``: the newest the client speaks; ``client``: what it calls itself."""

    protocol: int | None = None
    min_protocol: int | None = None
    client: Annotated[str, msgspec.Meta(max_length=200)] | None = None


async def hello(_app: App, caller: Caller, p: HelloParams) -> dict[str, Any]:
    """Greet: who the daemon is and what it can do.

    Result: ``{protocol, min_protocol, version, capabilities, pid, home, socket, log_file,
    hf_cache, hf_endpoint}``. A client that shares no protocol version with the daemon gets
    ``rpc.protocol_mismatch``.
    """
    newest = PROTOCOL if p.protocol is None else p.protocol
    oldest = newest if p.min_protocol is None else p.min_protocol
    if newest < MIN_PROTOCOL or oldest > PROTOCOL:
        raise ProtocolMismatch(
            f"the client speaks protocol {oldest} to {newest}, the daemon {MIN_PROTOCOL} to "
            f"{PROTOCOL}",
            protocol=PROTOCOL,
            min_protocol=MIN_PROTOCOL,
        )
    if p.client:
        caller.connection.client = p.client
    from moshid.rpc.methods import all_methods

    return {
        "protocol": PROTOCOL,
        "min_protocol": MIN_PROTOCOL,
        "version": __version__,
        "capabilities": list(all_methods()),
        "pid": os.getpid(),
        "home": str(_app.settings.home),
        "socket": str(_app.settings.socket),
        "log_file": str(_app.settings.log_file),
        "hf_cache": str(_app.downloads.cache_dir),
        "hf_endpoint": constants.ENDPOINT,
    }


async def status(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Tell how the daemon and its parts are.

    Result: ``{version, pid, uptime_s, home, memory_bytes, model, talk, downloads, limits,
    workers}``; ``downloads`` holds the jobs without their files, ``limits`` is what
    ``download.limits`` tells, ``workers`` ``{name, pid, state}``.
    """
    await app.whereabouts.look()
    told = [job.to_json() for job in app.downloads.list()]
    jobs = [{k: v for k, v in job.items() if k != "files"} for job in told]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - app.started_at, 1),
        "home": str(app.settings.home),
        "memory_bytes": memory_bytes(),
        "model": app.model.status(),
        "talk": app.talk.status(),
        "downloads": jobs,
        "limits": app.downloads.controls.limits(),
        "workers": [*_model_worker(app), *app.audio.workers()],
    }


async def stop(app: App, caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Stop the daemon, in order; downloads go on at its next start.

    Result: ``{stopping}``.
    """
    caller.after_reply.append(app.stop)
    return {"stopping": True}


def _model_worker(app: App) -> list[dict[str, Any]]:
    model = app.model.status()
    if model["pid"] is None:
        return []
    return [{"name": "model", "pid": model["pid"], "state": model["state"]}]


def memory_bytes() -> int:
    """Resident memory of this process (on macOS its highest so far: no cheaper call tells)."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


METHODS: list[Method[App]] = [
    Method("daemon.hello", HelloParams, hello),
    Method("daemon.status", NoParams, status),
    Method("daemon.stop", NoParams, stop),
]
