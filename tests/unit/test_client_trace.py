"""The Chrome trace: what chrome://tracing and Perfetto ask of the file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moshi_client import trace
from moshi_client.errors import ClientError
from moshid.audio.trace import KEPT_FRAMES, STAGES, Trace

TALK = [
    ("ahead", 0, 960, 30),
    ("queue", 0, 1000, 50),
    ("encode", 0, 1050, 6000),
    ("step", 0, 7050, 25_000),
    ("decode", 0, 32_100, 8000),
    ("play", 0, 40_100, 30_000),
    ("queue", 1, 41_000, 10),
]
BENCH = [("step", 0, 5, 20), ("step", 1, 30, 21)]


def events_of(path: Path) -> list[dict[str, Any]]:
    """The file's events, each checked for what its phase needs."""
    trace.write(str(path), trace.chrome([("talk t1", TALK), ("bench", BENCH)]))
    loaded = json.loads(path.read_text())
    assert loaded["displayTimeUnit"] == "ms"
    for event in loaded["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= event.keys()
        assert event["ph"] == "M" or event["ts"] >= 0
        assert event["ph"] != "X" or event["dur"] >= 0
        assert event["ph"] not in "be" or {"id", "cat"} <= event.keys()
    return list(loaded["traceEvents"])


def test_every_span_is_in_the_file_with_its_time_and_frame(tmp_path: Path) -> None:
    events = events_of(tmp_path / "t.json")
    whole = [e for e in events if e["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"], e["args"]["frame"]) for e in whole] == [
        ("ahead", 960, 30, 0),
        ("encode", 1050, 6000, 0),
        ("decode", 32_100, 8000, 0),
    ]
    begun = {(e["pid"], e["name"], e["id"]): e["ts"] for e in events if e["ph"] == "b"}
    ended = {(e["pid"], e["name"], e["id"]): e["ts"] for e in events if e["ph"] == "e"}
    assert begun.keys() == ended.keys()
    assert (begun[1, "step", 0], ended[1, "step", 0]) == (7050, 32_050)
    assert Counter(pid for pid, _, _ in begun) == {1: 4, 2: 2}


def test_tracks_have_names(tmp_path: Path) -> None:
    named = [e for e in events_of(tmp_path / "t.json") if e["ph"] == "M"]
    processes = [e["args"]["name"] for e in named if e["name"] == "process_name"]
    assert processes == ["talk t1", "bench"]
    stages = {(e["pid"], e["args"]["name"]) for e in named if e["name"] == "thread_name"}
    assert stages == {(1, s) for s in trace.STAGES} | {(2, "step")}


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="cannot be written"):
        trace.write(str(tmp_path / "no" / "t.json"), {})


def test_the_ring_keeps_the_newest_minute() -> None:
    ring = Trace()
    for frame in range(KEPT_FRAMES + 5):
        for _ in range(STAGES):
            ring.add("step", frame, frame * 1_000_000, frame * 1_000_000 + 2500)
    spans = ring.spans()
    assert len(spans) == KEPT_FRAMES * STAGES
    assert spans[0] == ("step", 5, 5000, 2)
    ring.add("play", 1, 10, 5)
    assert ring.spans()[-1] == ("play", 1, 0, 0), "clocks that disagree give no negative time"
