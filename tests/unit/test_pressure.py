"""Memory pressure: what the systems say, as one score, and when it is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.model import pressure
from moshid.model.pressure import (
    CALM_LOOKS,
    EMERGENCY_LOOKS,
    PATIENCE_LOOKS,
    PATIENCE_LOOKS_MAX,
    Gauge,
    Sample,
)
from tests.unit.test_memory import groups

PSI = """some avg10=40.00 avg60=3.00 avg300=1.00 total=123
full avg10={full} avg60=1.00 avg300=0.50 total=45
"""
CALM, BETWEEN, PRESSED = (Sample(score, "test") for score in (0.1, 0.7, 1.0))
EMERGENCY = Sample(2.0, "test")


def test_pressure_of_10_to_15_s_is_meant_as_the_docs_say() -> None:
    """The first look comes up to a pause late, the third two pauses after it."""
    assert (PATIENCE_LOOKS - 1) * pressure.LOOK_EVERY_S == 10.0
    assert PATIENCE_LOOKS * pressure.LOOK_EVERY_S == 15.0


def scores(gauge: Gauge, *samples: Sample) -> list[bool]:
    return [gauge.look(sample) for sample in samples]


@pytest.mark.parametrize(("full", "score"), [("0.00", 0.0), ("10.00", 1.0), ("25.00", 2.5)])
def test_linux_stalls(full: str, score: float) -> None:
    sample = pressure.from_psi(PSI.format(full=full))
    assert sample is not None
    assert sample.score == pytest.approx(score)
    assert f"{float(full):.1f} %" in sample.told_by


@pytest.mark.parametrize(("available", "score"), [(50, 0.1), (10, 0.5), (5, 1.0), (1, 5.0)])
def test_linux_available_memory(available: int, score: float) -> None:
    text = f"MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  {10 * available} kB\n"
    sample = pressure.from_meminfo(text)
    assert sample is not None
    assert sample.score == pytest.approx(score)


@pytest.mark.parametrize(("available_gib", "score"), [(100, 0.02), (4, 0.5), (2, 1.0), (1, 2.0)])
def test_on_a_large_machine_2_gib_are_enough(available_gib: int, score: float) -> None:
    text = f"MemTotal: {512 << 20} kB\nMemAvailable: {available_gib << 20} kB\n"
    sample = pressure.from_meminfo(text)
    assert sample is not None
    assert sample.score == pytest.approx(score)


def test_a_control_group_may_be_short_on_a_machine_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 9000 kB\n")
    groups(tmp_path, {"a": (4_000_000, 3_950_000, 0)})
    sample = pressure.sense(tmp_path)
    assert sample is not None
    assert sample.score == pytest.approx(4.0)


@pytest.mark.parametrize(("level", "score"), [(1, 0.0), (2, 1.0), (4, 2.0)])
def test_darwin_levels(level: int, score: float) -> None:
    sample = pressure.from_level(level)
    assert sample is not None
    assert sample.score == score


def test_what_is_not_told_is_no_pressure(tmp_path: Path) -> None:
    assert pressure.from_psi("some avg10=1.0") is None
    assert pressure.from_meminfo("MemTotal: 7 kB") is None
    assert pressure.from_level(None) is None
    assert pressure.sense(tmp_path) is None
    assert pressure.oom_kills(tmp_path) is None


def test_the_worse_of_the_two_counts(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "pressure").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    first = pressure.sense(tmp_path)
    (proc / "pressure" / "memory").write_text(PSI.format(full="30.00"))
    both = pressure.sense(tmp_path)
    assert first is not None
    assert both is not None
    assert [first.score, both.score] == pytest.approx([0.1, 3.0])


def test_this_machine_tells() -> None:
    sample = pressure.sense()
    assert sample is not None
    assert sample.score >= 0.0


def test_kills_for_memory_are_counted_for_the_machine_and_the_control_group(
    tmp_path: Path,
) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "vmstat").write_text("pgfault 7\noom_kill 3\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/user/moshid\n")
    assert pressure.oom_kills(tmp_path) == 3
    group = tmp_path / "sys" / "fs" / "cgroup" / "user" / "moshid"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert pressure.oom_kills(tmp_path) == 5


def test_pressure_has_to_last() -> None:
    gauge = Gauge()
    early = [False] * (PATIENCE_LOOKS - 1)
    assert scores(gauge, *[PRESSED] * PATIENCE_LOOKS) == [*early, True]
    gauge = Gauge()
    assert scores(gauge, PRESSED, PRESSED, CALM, PRESSED, PRESSED) == [False] * 5
    assert scores(gauge, BETWEEN, PRESSED) == [False, True], "in between, nothing is forgotten"


def test_an_emergency_does_not_wait() -> None:
    gauge = Gauge()
    assert not any(scores(gauge, *[CALM] * EMERGENCY_LOOKS))
    assert gauge.look(EMERGENCY)


def test_not_even_an_emergency_ends_a_model_that_has_just_come() -> None:
    gauge = Gauge()
    early = [False] * (EMERGENCY_LOOKS - 1)
    gauge.restart()
    assert scores(gauge, *[EMERGENCY] * EMERGENCY_LOOKS) == [*early, True]
    gauge.gave()
    assert scores(gauge, *[EMERGENCY] * EMERGENCY_LOOKS) == [*early, True]
    gauge.restart()
    assert scores(gauge, *[EMERGENCY] * EMERGENCY_LOOKS) == [*early, True], "whatever the patience"


def test_each_time_it_wants_to_see_more_until_there_was_calm_for_long() -> None:
    gauge = Gauge()
    patience = PATIENCE_LOOKS
    for _ in range(5):
        gauge.gave()
        patience = min(PATIENCE_LOOKS_MAX, 2 * patience)
        assert not any(scores(gauge, *[PRESSED] * (patience - 1)))
        assert gauge.look(PRESSED)
        gauge.restart()
        assert not gauge.look(PRESSED), "a model that was just loaded is given time"
    assert not any(scores(gauge, *[CALM] * CALM_LOOKS))
    assert scores(gauge, *[PRESSED] * PATIENCE_LOOKS)[-1]
