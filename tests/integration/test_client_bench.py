"""``moshi-client bench`` against a fake daemon: how fast the model is, beside LmGen, and traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.client_process import run_client, short_home
from tests.fakes.daemon_replies import BENCH, REPLIES, Json
from tests.fakes.fake_daemon import FakeDaemon, Fault

COMPARED: Json = {
    "steps": 100,
    "same_tokens": True,
    "ours_ms": {"p50": 22.0, "p95": 23.0, "p99": 24.0},
    "lmgen_ms": {"p50": 40.0, "p95": 41.0, "p99": 42.0},
    "ratio": 0.55,
    "nodes": {"ours": 900, "lmgen": 2000},
    "waits": {"ours": 1, "lmgen": 20},
}
SPANS: Json = {"session": "t-1", "spans": [["encode", 0, 5, 7], ["step", 0, 12, 30]]}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock", REPLIES) as fake:
        (home / "moshid.log").write_text("")
        yield fake


def run(daemon: FakeDaemon, *args: str) -> str:
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 0
    assert "error" not in done.stderr
    return done.stdout


def test_bench_says_how_far_from_real_time_and_from_the_floor(daemon: FakeDaemon) -> None:
    text = run(daemon, "bench")
    assert "p50 25 %, p95 50 %, p99 55 % of 80 ms: real-time" in text
    assert "80.0 MB a step, 160 MB with a full cache" in text
    assert "4.0 GB/s reached, 2.0 GB/s needed with a full cache" in text
    assert "10.0 ms a step at the 8.0 GB/s" in text
    assert "p50 is 2.0 times that" in text
    slow = BENCH | {"realtime": False, "compare": COMPARED}
    daemon.replies["model.bench"] = slow
    text = run(daemon, "bench", "--compare")
    assert "too slow for real time" in text
    assert "p50 40.0 ms, p95 41.0 ms, p99 42.0 ms; the same tokens" in text
    assert "p50 22.0 ms, p95 23.0 ms, p99 24.0 ms, 0.55 of LmGen's p50" in text
    assert "900 nodes a frame, LmGen 2000; 1 wait, 20" in text


def test_bench_writes_a_trace_of_its_steps_and_of_the_last_talk(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.replies["talk.trace"] = SPANS
    daemon.replies["model.bench"] = BENCH | {"trace": [["step", 0, 100, 20_000]]}
    file = tmp_path / "t.json"
    answer = json.loads(run(daemon, "bench", "--trace", str(file), "--json"))
    assert (answer["trace_file"], "trace" in answer) == (str(file), False)
    assert daemon.params_of("model.bench") == [{"trace": True}]
    events = json.loads(file.read_text())["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert names == ["talk t-1", "bench"]
    assert {e["ts"] for e in events if e["ph"] in "Xb"} == {5, 12, 100}


def test_bench_traces_a_talk_that_goes_on_and_runs_no_step(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.replies["talk.trace"] = SPANS
    daemon.replies["talk.status"] = {"session": "t-1"}
    daemon.replies["model.bench"] = Fault("talk.busy", "a talk is going on")
    file = tmp_path / "t.json"
    assert "none: talk t-1 has the model" in run(daemon, "bench", "--trace", str(file))
    assert len(json.loads(file.read_text())["traceEvents"]) == 6
    assert run_client(daemon.path.parent, "bench").returncode == 1
