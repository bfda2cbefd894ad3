"""What only the daemon knows, for completions: models, jobs, devices, methods. Owns its silence.

A completion must not write over the command line or hold it up: no daemon, an old one or a slow
one means no candidates.
"""

from __future__ import annotations

from moshi_client import progress, wire
from moshi_client.commands import events
from moshi_client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moshi_client.context import Context

    Json = dict[str, Any]
    Candidate = tuple[str, str]

PATIENCE_S = 2.0

_METHODS = {
    "models": "model.list",
    "jobs": "download.list",
    "input": "audio.devices",
    "output": "audio.devices",
    "methods": "rpc.discover",
}


def candidates(ctx: Context, kind: str) -> list[Candidate]:
    """The candidates of a kind, each with a few words about it; none if they cannot be had."""
    if kind == "events":
        return [(topic, "") for topic in events.TOPICS]
    try:
        with wire.Connection.open(ctx.socket, timeout_s=PATIENCE_S) as connection:
            connection.call("daemon.hello", wire.greeting(), timeout_s=PATIENCE_S)
            result = connection.call(_METHODS[kind], timeout_s=PATIENCE_S)
    except ClientError:
        return []
    match kind:
        case "models":
            return [(m["name"], _about_model(m)) for m in result["models"]]
        case "jobs":
            return _jobs(result["jobs"])
        case "methods":
            return [
                (m["name"], str(m.get("summary", "")).replace("``", "`")) for m in result["methods"]
            ]
    return [(device["name"], device.get("hostapi", "")) for device in result[kind]]


def _about_model(model: Json) -> str:
    where = "loaded" if model.get("loaded") else "on disk" if model.get("on_disk") else ""
    return ", ".join(part for part in (where, model.get("description")) if part)


def _jobs(jobs: list[Json]) -> list[Candidate]:
    """By repository, which says more; by id where that is a URL or names several."""
    repos = [job.get("repo") for job in jobs]
    found = []
    for job in jobs:
        repo = str(job.get("repo"))
        is_plain = "://" not in repo and repos.count(repo) == 1
        told = f"{job.get('state')}, {progress.job_fraction(job) * 100:.0f} %"
        found.append(
            (repo, told) if is_plain else (str(job["id"]), f"{progress.job_name(job)}, {told}")
        )
    return found
