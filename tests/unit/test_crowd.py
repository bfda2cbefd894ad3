"""How many connections a server has room for, by whom it refuses."""

from __future__ import annotations

import asyncio
import time

import pytest

from moshid.downloads.crowd import ALIKE, REFUSALS, REST_FIRST_S, REST_MAX_S, SPAN_S, Crowd
from moshid.downloads.pace import Gate
from tests.fakes.hand_clock import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def crowd(clock: HandClock) -> Crowd:
    return Crowd(lambda: clock.steady_s)


def refuse(crowd: Crowd, clock: HandClock, *bringing: int, every_s: float = 2.0) -> None:
    """One refusal after the other."""
    for count in bringing:
        clock.advance(every_s)
        crowd.refused(count)


def test_a_server_with_room_for_two_is_asked_for_a_third_ever_more_seldom(
    crowd: Crowd, clock: HandClock
) -> None:
    refuse(crowd, clock, 0, 1, *(REFUSALS - 3) * [2])
    crowd.gave(2)
    assert crowd.room is None
    crowd.refused(2)
    assert crowd.room == 2
    asked, rest_s = 0, REST_FIRST_S
    while rest_s < REST_MAX_S:
        clock.advance(rest_s - 1)
        assert crowd.room == 2
        clock.advance(1)
        assert crowd.room == 3, "one may ask"
        crowd.refused(2)
        asked, rest_s = asked + 1, min(2 * rest_s, REST_MAX_S)
        assert crowd.room == 2
        assert crowd.rest_s == rest_s
    assert asked < 10


def test_where_there_is_room_again_all_may_ask(crowd: Crowd, clock: HandClock) -> None:
    refuse(crowd, clock, *REFUSALS * [2])
    clock.advance(REST_FIRST_S)
    crowd.gave(3)
    assert crowd.room is None


def test_a_server_that_slips_now_and_then_has_room(crowd: Crowd) -> None:
    for _ in range(10 * REFUSALS):
        crowd.refused(3)
        crowd.gave(4)
    assert crowd.room is None


def test_a_server_that_counts_requests_in_a_time_says_nothing_of_their_number(
    crowd: Crowd, clock: HandClock
) -> None:
    for _ in range(REFUSALS):
        refuse(crowd, clock, 2, 1, 0, 0)
        crowd.gave(1)
        crowd.gave(2)
    assert crowd.room is None
    assert REFUSALS - ALIKE == 2


def test_a_server_that_is_busy_for_some_seconds_has_room_afterwards(
    crowd: Crowd, clock: HandClock
) -> None:
    refuse(crowd, clock, *5 * REFUSALS * [4], every_s=SPAN_S / (5 * REFUSALS))
    assert crowd.room is None
    crowd.gave(5)
    refuse(crowd, clock, *5 * REFUSALS * [4], every_s=SPAN_S / (5 * REFUSALS))
    assert crowd.room is None


def test_where_it_gives_to_nobody_one_asks(crowd: Crowd, clock: HandClock) -> None:
    refuse(crowd, clock, *REFUSALS * [0])
    assert crowd.room == 1
    crowd.gave(1)
    assert crowd.room is None


def test_a_server_that_has_less_room_than_before_is_believed(
    crowd: Crowd, clock: HandClock
) -> None:
    refuse(crowd, clock, *REFUSALS * [4])
    clock.advance(REST_FIRST_S)
    refuse(crowd, clock, 4, *REFUSALS * [2])
    assert crowd.room == 2
    assert crowd.rest_s == REST_FIRST_S


@pytest.mark.asyncio
async def test_the_gate_lets_in_as_many_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, loop, later_s = Gate(4), asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + later_s)
    entries: asyncio.Queue[int] = asyncio.Queue()
    leave = asyncio.Event()

    async def visitor(number: int) -> None:
        async with gate.slot():
            entries.put_nowait(number)
            await leave.wait()

    for number in range(REFUSALS):
        later_s = 2.0 * number
        gate.refused(2)
    assert gate.limit == 2
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(visitor(number))
        assert [await entries.get() for _ in range(2)] == [0, 1]
        later_s += REST_FIRST_S
        assert await entries.get() == 2
        gate.gave(3)
        assert await entries.get() == 3
        assert (entries.empty(), gate.limit) == (True, 4)
        leave.set()
