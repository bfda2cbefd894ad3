"""States of the terminal UI, and what a daemon would say to bring them about."""

from __future__ import annotations

from typing import Any

from moshi_client.tui import reduce
from moshi_client.tui.state import Effect, State

Json = dict[str, Any]

CONTROLS: Json = {
    "muted": False,
    "push_to_talk": False,
    "talking": False,
    "volume": 1.0,
    "paused": False,
    "hears": True,
}
MODEL: Json = {
    "state": "busy",
    "model": "moshiko",
    "quality": "q4",
    "memory_bytes": 5_100_000_000,
    "step_ms": {"p50": 24.3, "p95": 30.1, "p99": 33.0},
    "error": None,
    "last_fault": None,
    "progress": None,
}
LOG: Json = {"t": "2026-01-02T10:00:01.123Z", "level": "warning", "logger": "moshid.x", "msg": "hm"}


def job(name: str = "j1", state: str = "downloading", **more: Any) -> Json:
    """A download job."""
    return {
        "id": name,
        "repo": f"kyutai/{name}",
        "state": state,
        "bytes_total": 4_800_000_000,
        "bytes_done": 1_200_000_000,
        "rate_bps": 3.4e6,
        "eta_s": 1059,
        "connections": 8,
        "retries": 2,
        "error": None,
        **more,
    }


def talk(state: str = "listening", session: str = "s1", **more: Any) -> Json:
    """A talk's status."""
    return {
        "session": session,
        "state": state,
        "seconds": 83.0,
        "lagged_frames": 3,
        "underruns": 1,
        "latency_ms": {"p50": 310.0, "p95": 333.0},
        "echo_cancel": True,
        "engine": "moshi",
        "model": "moshiko",
        "owner": "somebody/1",
        "controls": CONTROLS,
        "recording": None,
        "error": None,
        **more,
    }


def event(state: State, topic: str, /, **data: Any) -> tuple[State, list[Effect]]:
    """The state after an event."""
    return reduce.notified(state, "event", {"topic": topic, "data": data})


def say(state: State, text: str, t_s: float, session: str = "s1") -> State:
    """The state after a word of Moshi's."""
    return event(state, "talk.text", session=session, t_s=t_s, text=text)[0]


def listening(**more: Any) -> State:
    """A daemon with a talk that goes on, two downloads, and a line in its log."""
    state = State(
        daemon={"version": "0.1.0", "pid": 7, "since": "10:31", "memory_bytes": 50_000_000},
        model=MODEL,
        jobs=(job("done-one", "done"), job()),
        talk=talk(**more),
        log=(LOG,),
        levels={
            "session": "s1",
            "input_dbfs": -20.0,
            "output_dbfs": -40.0,
            "speech_probability": 0.9,
            "user_speaking": True,
            "moshi_speaking": False,
        },
    )
    return say(state, "Hello, how are you?", 3.2)
