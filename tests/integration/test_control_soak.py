"""Rude clients for some seconds: bad calls, leaving, cancelling, SIGKILL of workers."""

from __future__ import annotations

from pathlib import Path

from tests.bench.soak_control import demo_world, soak


def test_the_daemon_survives_rude_clients(demo_checkpoint: Path, tmp_path: Path) -> None:
    """The long version: ``python -m tests.bench.soak_control``."""
    with demo_world(demo_checkpoint, tmp_path) as world:
        outcome = soak(world, 4.0, 7, tmp_path)
    assert outcome.faults == []
    assert outcome.talks > 2
    assert outcome.done["wrong calls"] > 5
