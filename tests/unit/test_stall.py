"""When a connection is silent, and when it counts as stalled: by a clock that the test turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.downloads.stall import (
    BODY_S,
    DEAD_S,
    DEAD_SHARE,
    DRIP_BYTES,
    FIRST_BYTE_S,
    HURRY_S,
    SILENT_S,
    Limit,
    Stalls,
    Watch,
)

MOST_S = 30.0


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def watch_of(clock: Clock, *, hurry: bool = False) -> Watch:
    """A connection of a new job that has just asked."""
    return Stalls(MOST_S, clock).watch(lambda: hurry)


def test_a_silent_connection_is_dropped_early_on_a_line_that_moves(clock: Clock) -> None:
    watch = watch_of(clock)
    clock.now_s += 0.05
    watch.answered()
    for _ in range(10):
        clock.now_s += 0.05
        watch.took(DRIP_BYTES)
    assert (watch.is_silent, watch.is_over) == (False, False)
    clock.now_s += SILENT_S + 0.01
    assert (watch.is_silent, watch.is_over) == (True, False)
    clock.now_s += BODY_S - SILENT_S
    assert watch.is_over


def test_on_a_dead_line_a_seat_is_lent_soon(clock: Clock) -> None:
    stalls = Stalls(MOST_S, clock)
    early = stalls.watch(lambda: False)
    clock.now_s += DEAD_S / 2
    assert not early.is_silent
    clock.now_s += DEAD_S / 2
    late = stalls.watch(lambda: False)
    assert early.is_silent
    assert not late.is_silent
    clock.now_s += 1.1 * HURRY_S
    assert late.is_silent
    stalls.moved_s = clock.now_s
    assert late.is_silent, "what was sent then is lost, though the line be back"
    late.answered()
    clock.now_s += 1.1 * HURRY_S
    assert not late.is_silent


def test_the_first_byte_is_waited_for_longer(clock: Clock) -> None:
    watch = watch_of(clock)
    clock.now_s += FIRST_BYTE_S - 0.01
    assert not watch.is_over
    clock.now_s += 0.02
    assert watch.is_over


def test_a_drip_is_a_stall(clock: Clock) -> None:
    watch = watch_of(clock)
    watch.answered()
    for _ in range(4):
        clock.now_s += 9.0
        watch.took(1)
    assert watch.is_over


def test_nobody_is_blamed_while_nobody_listens(clock: Clock) -> None:
    watch = watch_of(clock)
    watch.answered()
    clock.now_s += 1.0
    with watch.resting():
        clock.now_s += 1000.0
        assert (watch.is_silent, watch.is_over) == (False, False)
    assert not watch.is_over
    clock.now_s += BODY_S - 1.0
    assert watch.is_over


def test_while_nobody_listens_the_line_does_not_die(clock: Clock) -> None:
    """A disk that takes nothing for a while says nothing of it."""
    stalls = Stalls(MOST_S, clock)
    watch = stalls.watch(lambda: True)
    watch.answered()
    watch.took(DRIP_BYTES)
    watch.rest()
    clock.now_s += 10 * DEAD_S
    watch.listen()
    assert stalls.dead_s == 0
    assert not watch.is_over


def test_who_keeps_all_others_waiting_is_dropped_sooner(clock: Clock) -> None:
    patient, hurried = watch_of(clock), watch_of(clock, hurry=True)
    for watch in (patient, hurried):
        watch.answered()
        clock.now_s += 0.01
        watch.took(DRIP_BYTES)
    clock.now_s += HURRY_S + 0.01
    assert (patient.is_over, hurried.is_over) == (False, True)


def test_a_line_that_nobody_knows_yet_is_not_hurried() -> None:
    limit = Limit(2.0, MOST_S)
    assert limit.hurry_s() == limit.limit_s()
    limit.moved(0.02, 100.0)
    assert limit.hurry_s() == HURRY_S
    limit.moved(0.5, 100.0)
    assert limit.hurry_s() == 1.5
    for now_s in (101.0, 102.0, 103.0):
        limit.stalled(now_s - 0.5, now_s)
    assert limit.hurry_s() == 3.0


def test_who_is_in_a_hurry_forgets_a_long_gap_sooner() -> None:
    limit = Limit(2.0, MOST_S)
    limit.moved(1.0, 100.0)
    limit.moved(0.01, 106.0)
    assert limit.hurry_s() == pytest.approx(3 / 8)
    assert limit.limit_s() > 3.0


def test_on_a_dead_line_nobody_is_waited_for_but_longer_the_longer_it_lasts(clock: Clock) -> None:
    stalls = Stalls(MOST_S, clock)
    first = stalls.watch(lambda: False)
    clock.now_s += 0.01
    first.answered()
    clock.now_s += 0.01
    first.took(DRIP_BYTES)
    clock.now_s += DEAD_S - 0.01
    assert (stalls.dead_s, first.is_over) == (0.0, False)
    clock.now_s += 0.02
    assert first.is_over
    clock.now_s += 40.0
    scout = stalls.watch(lambda: False)
    clock.now_s += DEAD_SHARE * 40.0
    assert not scout.is_over
    clock.now_s += 0.2
    assert scout.is_over
    scout.stalled()
    assert scout.limit.limit_s() == FIRST_BYTE_S


def test_what_was_asked_of_a_dead_line_is_not_waited_for_when_it_is_back(clock: Clock) -> None:
    stalls = Stalls(MOST_S, clock)
    stalls.first_byte.moved(0.01, clock.now_s)
    clock.now_s += 10.0
    lost, scout = stalls.watch(lambda: False), stalls.watch(lambda: False)
    clock.now_s += 0.1
    scout.answered()
    assert stalls.dead_s == 0.0
    clock.now_s += DEAD_SHARE * 10.0
    assert (lost.is_over, scout.is_over) == (True, False)


def test_each_stall_in_a_row_doubles_the_patience_up_to_the_profiles() -> None:
    limit = Limit(2.0, MOST_S)
    limits_s = []
    for now_s in range(7):
        limits_s.append(limit.limit_s())
        limit.stalled(now_s, now_s)
    assert limits_s == [2.0, 4.0, 8.0, 16.0, MOST_S, MOST_S, MOST_S]
    limit.moved(0.1, 100.0)
    assert limit.limit_s() == 2.0


def test_connections_that_fall_silent_together_are_one_stall() -> None:
    limit = Limit(2.0, MOST_S)
    for since_s in (100.0, 100.1, 100.2):
        limit.stalled(since_s, since_s + 2.0)
    assert limit.limit_s() == 4.0
    limit.stalled(103.0, 107.0)
    assert limit.limit_s() == 8.0


def test_a_line_with_long_gaps_gets_its_time_and_is_forgotten() -> None:
    limit = Limit(2.0, MOST_S)
    limit.moved(3.0, 100.0)
    assert limit.limit_s() == 12.0
    limit.moved(0.1, 130.0)
    assert limit.limit_s() == pytest.approx(6.0)
    limit.moved(0.1, 1000.0)
    assert limit.limit_s() == 2.0


@given(
    st.floats(0.1, 60.0),
    st.lists(st.one_of(st.none(), st.floats(0.0, 100.0)), max_size=40),
)
def test_the_limits_never_leave_their_bounds(most_s: float, events: list[float | None]) -> None:
    limit, now_s = Limit(2.0, most_s), 0.0
    for gap_s in events:
        if gap_s is None:
            limit.stalled(now_s, now_s)
        else:
            now_s += gap_s
            limit.moved(gap_s, now_s)
        assert min(2.0, most_s) <= limit.limit_s() <= most_s
        assert limit.hurry_s() <= limit.limit_s()
