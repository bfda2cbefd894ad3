"""Spans as a Chrome trace: JSON that chrome://tracing and Perfetto load. Owns the file's format.

The format is Google's "Trace Event Format". A stage is a track; stages in which frames overlap
(they wait side by side) are asynchronous events with the frame as their id, the others are complete
events.
"""

from __future__ import annotations

import json

from moshi_client.errors import ClientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Json = dict[str, Any]
    Span = Sequence[Any]

STAGES = ("ahead", "queue", "encode", "step", "decode", "play")
OVERLAPPING = ("queue", "step", "play")


def chrome(tracks: Sequence[tuple[str, Sequence[Span]]]) -> Json:
    """Of ``(name, spans)``, each a process of its own; a span is ``(stage, frame, at_us, us)``."""
    events: list[Json] = []
    for pid, (name, spans) in enumerate(tracks, start=1):
        events.append(_named("process_name", pid, 0, name))
        for stage in dict.fromkeys(span[0] for span in spans):
            events.append(_named("thread_name", pid, _track(stage), stage))
        for span in spans:
            events += _events(pid, span)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write(path: str, trace: Json) -> None:
    """Write it as a file.

    Raises:
        ClientError: it cannot be written.
    """
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(trace, file, separators=(",", ":"))
    except OSError as e:
        raise ClientError(f"the trace cannot be written: {path}: {e.strerror}") from e


def _events(pid: int, span: Span) -> list[Json]:
    stage, frame, at_us, duration_us = span
    event = {"name": stage, "cat": "frame", "pid": pid, "tid": _track(stage), "ts": at_us}
    args = {"args": {"frame": frame}}
    if stage not in OVERLAPPING:
        return [{**event, "ph": "X", "dur": duration_us, **args}]
    at_end = {**event, "ph": "e", "ts": at_us + duration_us, "id": frame}
    return [{**event, "ph": "b", "id": frame, **args}, at_end]


def _named(what: str, pid: int, tid: int, name: str) -> Json:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _track(stage: str) -> int:
    return 1 + STAGES.index(stage) if stage in STAGES else 1 + len(STAGES)
