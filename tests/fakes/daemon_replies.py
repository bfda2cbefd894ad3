"""What a daemon with one model, one download and one microphone answers to each method."""

from __future__ import annotations

from typing import Any

from tests.fakes.fake_daemon import Reply

Json = dict[str, Any]

JOB: Json = {
    "id": "job-1",
    "repo": "kyutai/x",
    "state": "downloading",
    "files": [],
    "bytes_total": 2_000_000,
    "bytes_done": 500_000,
    "rate_bps": 1e6,
    "eta_s": 2,
    "error": None,
}
MODEL: Json = {
    "state": "ready",
    "model": "demo",
    "quality": "q4",
    "memory_bytes": 123_000_000,
    "load_s": 1.25,
    "warmup_s": 0.5,
    "step_ms": {"p50": 20.0, "p95": 25.5, "p99": 30.0},
    "until": None,
    "pid": 4242,
    "restarts": 0,
    "error": None,
    "progress": None,
}
STATUS: Json = {
    "version": "0.1.0",
    "pid": 7,
    "uptime_s": 3723.0,
    "home": "/h",
    "memory_bytes": 50_000_000,
    "model": MODEL,
    "talk": {"session": None, "state": "idle"},
    "downloads": [JOB],
    "workers": [{"name": "model", "pid": 4242, "state": "running"}],
}
MODELS: Json = {
    "models": [
        {
            "name": "demo",
            "repo": "moshid/demo",
            "description": "a parrot",
            "qualities": {"bf16": 40_000_000},
            "on_disk": True,
            "on_disk_qualities": ["bf16"],
            "disk_bytes": 41_000_000,
            "loaded": True,
        }
    ]
}
BANDWIDTH: Json = {
    "weights_bytes": 96_000_000,
    "step_bytes": 80_000_000,
    "full_step_bytes": 160_000_000,
    "reached_bps": 4_000_000_000,
    "needed_bps": 2_000_000_000,
    "machine_bps": 8_000_000_000,
    "floor_ms": 10.0,
}
BENCH: Json = {
    "steps": 100,
    "step_ms": {"p50": 20.0, "p95": 40.0, "p99": 44.0, "min": 18.0, "max": 50.0},
    "budget_ms": 80,
    "budget_share": {"p50": 0.25, "p95": 0.5, "p99": 0.55},
    "realtime": True,
    "memory_bytes": 123_000_000,
    "bandwidth": BANDWIDTH,
    "compare": None,
    "trace": None,
}
DEVICE: Json = {
    "index": 3,
    "name": "Mic",
    "hostapi": "JACK",
    "channels": 1,
    "default_rate": 48000.0,
    "default": True,
}
OPENRPC: Json = {
    "openrpc": "1.3.2",
    "methods": [
        {
            "name": "download.get",
            "summary": "One job.",
            "params": [
                {"name": "id", "required": True, "schema": {"type": "string"}},
                {
                    "name": "deep",
                    "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 7},
                },
            ],
            "result": {"name": "result", "schema": {"type": "object"}},
        }
    ],
}
REPLIES: dict[str, Reply] = {
    "daemon.status": STATUS,
    "model.status": MODEL,
    "model.load": MODEL,
    "model.unload": MODEL | {"state": "unloaded"},
    "model.list": MODELS,
    "model.bench": BENCH,
    "download.list": {"jobs": [JOB]},
    "download.pause": {"job": JOB | {"state": "paused"}},
    "download.resume": {"job": JOB},
    "download.cancel": {"job": JOB | {"state": "cancelled"}},
    "audio.devices": {"input": [DEVICE], "output": []},
    "rpc.discover": OPENRPC,
}
