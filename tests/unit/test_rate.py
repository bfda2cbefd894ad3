"""The rate and the time left, over lines that come in bursts: small steps, small errors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from moshid.downloads.job import Job, JobFile
from moshid.downloads.meter import Meter
from moshid.downloads.rate import OFFLINE_S, Pace
from moshid.downloads.tally import Tally

MB = 1e6
TICK_S = 0.25
WARM_S = 30.0
"""How long the first mean may take to settle."""

Arrived = Callable[[float], float]
"""Seconds since the start → bytes that have come by then."""


def steady(t_s: float) -> float:
    return 4 * MB * t_s


def cut(t_s: float) -> float:
    """3 s at 5 MB/s, then 0.75 s of nothing."""
    rounds, rest_s = divmod(t_s, 3.75)
    return 5 * MB * (3 * rounds + min(3.0, rest_s))


def disk_rounds(t_s: float) -> float:
    """12 MiB at once, every three seconds."""
    return (t_s // 3.0) * 12 * 1024 * 1024


def drops(t_s: float) -> float:
    """1 MiB at once, from four connections at their own time."""
    return sum((t_s + phase) // 1.7 for phase in (0.0, 0.3, 0.9, 1.4)) * 1024 * 1024


def stalls(t_s: float) -> float:
    """4 MB/s, but for 10 s in every minute."""
    rounds, rest_s = divmod(t_s, 60.0)
    return 4 * MB * (50 * rounds + min(50.0, rest_s))


def regular() -> Iterator[float]:
    while True:
        yield TICK_S


def odd() -> Iterator[float]:
    rng = random.Random(7)
    while True:
        yield rng.choice((0.02, 0.1, 0.25, 0.4, 0.9))


def watched(
    arrived: Arrived, total: float, spans: Iterator[float]
) -> Iterator[tuple[float, float, float, float | None]]:
    """At each look: the time, the span, the rate, and the time left."""
    pace, t_s = Pace(), 0.0
    pace.look(0.0, 0.0, 0.0, total)
    while (done := arrived(t_s)) < total:
        span_s = next(spans)
        t_s += span_s
        done = arrived(t_s)
        pace.look(t_s, done, done, total - done)
        yield t_s, span_s, pace.rate_bps, pace.eta_s


def end_of(arrived: Arrived, total: float) -> float:
    """When the last byte is there."""
    t_s = 0.0
    while arrived(t_s) < total:
        t_s += 0.01
    return t_s


@pytest.mark.parametrize("spans", [regular, odd])
@pytest.mark.parametrize("arrived", [steady, cut, disk_rounds, drops])
def test_neither_jumps_on_a_line_that_comes_in_bursts(
    arrived: Arrived, spans: Callable[[], Iterator[float]]
) -> None:
    total = 1200 * MB
    end_s, seen = end_of(arrived, total), list(watched(arrived, total, spans()))
    warm = [s for s in seen if s[0] > WARM_S and s[0] < end_s - 5]
    mean_bps = total / end_s
    for (_, _, before_bps, eta_before), (t_s, span_s, rate_bps, eta_s) in pairwise(warm):
        assert abs(rate_bps - before_bps) <= 0.40 * mean_bps * span_s
        assert abs(rate_bps - mean_bps) <= 0.30 * mean_bps
        assert eta_s is not None
        assert eta_before is not None
        left_s = end_s - t_s
        assert abs(eta_s - left_s) <= 0.12 * left_s + 4.0
        jump_s = eta_s - (eta_before - span_s)
        assert abs(jump_s) <= (0.02 * left_s + 0.8) * max(1.0, span_s / TICK_S)


def test_the_time_left_outlives_a_stall_and_the_rate_tells_of_it() -> None:
    total = 2000 * MB
    end_s, seen = end_of(stalls, total), list(watched(stalls, total, regular()))
    for (_, span_s, before_bps, eta_before), (t_s, _, rate_bps, eta_s) in pairwise(seen):
        if t_s < 60.0 or t_s > end_s - 15:
            continue
        assert eta_s is not None
        assert eta_before is not None
        assert abs(eta_s - (end_s - t_s)) <= 0.30 * (end_s - t_s) + 8.0
        assert abs(eta_s - (eta_before - span_s)) <= 0.01 * eta_before + 1.0
        assert abs(rate_bps - before_bps) <= 0.15 * 4 * MB
        if t_s % 60.0 > 58.0:
            assert rate_bps < 0.35 * 4 * MB


def test_a_line_that_is_down_shows_no_rate_and_comes_back_to_the_same_time_left() -> None:
    pace, done = Pace(), 0.0
    for tick in range(401):  # 100 s at 4 MB/s
        done = MB * tick
        pace.look(tick * TICK_S, done, done, 4000 * MB - done)
    before_s = pace.eta_s
    assert before_s is not None
    assert before_s == pytest.approx(900.0, rel=0.01)
    for tick in range(401, 401 + 4 * 3600):  # an hour of nothing
        pace.look(tick * TICK_S, done, done, 4000 * MB - done)
        silent_s = (tick - 400) * TICK_S
        if silent_s >= OFFLINE_S:
            assert (pace.rate_bps, pace.eta_s) == (0.0, None)
    for tick in range(401 + 4 * 3600, 441 + 4 * 3600):
        done += MB
        pace.look(tick * TICK_S, done, done, 4000 * MB - done)
    assert pace.eta_s == pytest.approx(before_s, rel=0.15), "the hour is not counted"
    assert pace.rate_bps == pytest.approx(4 * MB, rel=0.25)


def test_how_often_one_looks_makes_no_difference() -> None:
    def after(spans: list[float]) -> float:
        pace, t_s = Pace(), 0.0
        pace.look(0.0, 0.0, 0.0, 1e9)
        for span_s in spans:
            t_s += span_s
            pace.look(t_s, 1e6 * t_s, 1e6 * t_s, 1e9)
        return pace.rate_bps

    assert after([1.0] * 8) == pytest.approx(after([0.1] * 80)) == pytest.approx(1e6)


def make_meter(tmp_path: Path, total: int) -> tuple[Meter, JobFile, list[float]]:
    """A meter, its one file, and its clock, to be put forward."""
    now = [0.0]
    file = JobFile("weights", total, "0" * 64)
    job = Job("1", "r", "main", bytes_total=total, files=[file])
    return Meter(job, Tally(tmp_path / "tally"), lambda: now[0]), file, now


def test_rescued_bytes_and_repairs_are_no_rate(tmp_path: Path) -> None:
    meter, file, now = make_meter(tmp_path, 10_000_000_000)
    rates, etas = [], []
    for tick in range(400):
        now[0] = tick * TICK_S
        meter.arrived([file], 1_000_000)
        if tick == 200:
            meter.hold([file], 4_000_000_000)
            meter.settle()
        if tick == 300:
            meter.hold([file], -50_000_000)  # a chunk was bad
            meter.corrupt(1)
        meter.tick()
        rates.append(meter.job.rate_bps)
        etas.append(meter.job.eta_s or 0.0)
    assert all(r == pytest.approx(4e6, rel=0.02) for r in rates[80:])
    assert etas[199] == pytest.approx(9_800_000_000 / 4e6, rel=0.02)
    assert etas[299] == pytest.approx(5_700_000_000 / 4e6, rel=0.10)
    steps = [b - a + TICK_S for a, b in pairwise(etas[100:])]
    assert max(abs(s) for s in steps) < 0.03 * etas[199], "even rescue draws the time left along"


def test_bytes_on_their_way_are_seen_once(tmp_path: Path) -> None:
    meter, file, now = make_meter(tmp_path, 100_000_000)
    meter.tick()
    for tick in range(1, 161):
        now[0] = tick * TICK_S
        meter.saw(100_000)
        if tick % 16 == 0:  # written in pieces of 1.6 MB, four seconds apart
            meter.arrived([file], 1_600_000)
        meter.tick()
        if tick > 40:
            assert meter.job.rate_bps == pytest.approx(400_000, rel=0.01)
    assert meter.job.bytes_fetched == meter.job.bytes_done == 16_000_000
    assert meter.job.eta_s == pytest.approx(84_000_000 / 400_000, rel=0.01)
