"""The model's transition table, and the bounded ring of step times."""

from __future__ import annotations

import pytest

from moshid.model.states import RESIDENT, TRANSITIONS, ImpossibleTransition, State, check
from moshid.model.timings import StepTimes


def test_every_state_is_in_the_table_and_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {new for others in TRANSITIONS.values() for new in others}
    assert reached == set(State)
    assert all(TRANSITIONS.values())


def test_a_resident_model_goes_away_only_through_its_process() -> None:
    for state in (State.READY, State.BUSY):
        assert State.UNLOADED not in TRANSITIONS[state]
        assert State.ABSENT not in TRANSITIONS[state]
    assert State.FAILED not in RESIDENT


def test_steps_outside_the_table_are_refused() -> None:
    check(State.READY, State.BUSY)
    check(State.READY, State.READY)
    with pytest.raises(ImpossibleTransition, match="unloaded to busy"):
        check(State.UNLOADED, State.BUSY)


def test_percentiles_are_nearest_rank_of_the_kept_steps() -> None:
    times = StepTimes(kept=100)
    assert times.percentiles() is None
    assert times.last_age_s() is None
    for ms in (5000.0, *range(1, 101)):
        times.add(float(ms))
    found = times.percentiles()
    assert found is not None
    assert (found.p50, found.p95, found.p99) == (50.0, 95.0, 99.0), "5000 has been forgotten"
    bench = times.bench()
    assert (bench.min, bench.max) == (1.0, 100.0)
    age_s = times.last_age_s()
    assert age_s is not None
    assert age_s >= 0.0
