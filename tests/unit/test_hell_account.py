"""The link's own account, by a hand-set clock: twice-sent bytes, lost time; the dice, by seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.hell_account import Account, Coverage
from tests.fakes.hell_plan import MB, Blow, Burst, Fates, Hell


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """At 100 s."""
    return Clock()


@pytest.fixture
def account(clock: Clock) -> Account:
    """Of a file of 1000 bytes, over a link of 100 bytes a second; time has begun."""
    made = Account(1000, 100.0, clock=clock)
    made.begin()
    return made


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_coverage_counts_each_byte_once(spans: list[tuple[int, int]]) -> None:
    coverage, seen = Coverage(), set[int]()
    for a, b in spans:
        start, stop = min(a, b), max(a, b) + 1
        fresh = set(range(start, stop)) - seen
        assert coverage.add(start, stop) == len(fresh)
        seen |= fresh
        assert coverage.count_bytes == len(seen)


def test_a_full_link_has_all_the_goodput_there_is(account: Account, clock: Clock) -> None:
    with account.serving():
        for at in range(0, 1000, 100):
            clock.now_s += 1.0
            account.sent(at, at + 100)
    told = account.report()
    assert (told["goodput_share"], told["idle_s"], told["twice_bytes"]) == (1.0, 0.0, 0)


def test_what_is_sent_again_is_no_goodput(account: Account, clock: Clock) -> None:
    with account.serving():
        clock.now_s += 20.0
        account.sent(0, 1000)
        account.sent(500, 1000)
        account.sent(0, 500)
    told = account.report()
    assert (told["goodput_share"], told["twice_share"]) == (0.5, 1.0)


def test_idle_time_counts_against_the_client(account: Account, clock: Clock) -> None:
    with account.stalling():
        clock.now_s += 3.0
    clock.now_s += 2.0
    with account.serving():
        clock.now_s += 5.0
        account.sent(0, 1000)
    told = account.report()
    assert (told["idle_s"], told["idle_stalled_s"], told["allowed_bytes"]) == (5.0, 3.0, 1000.0)


def test_a_line_that_is_down_owes_nothing(account: Account, clock: Clock) -> None:
    with account.down(), account.down():
        clock.now_s += 3600.0
    clock.now_s += 10.0
    account.sent(0, 1000)
    told = account.report()
    assert (told["outage_s"], told["goodput_share"]) == (3600.0, 1.0)


def test_a_busy_server_owes_nothing_until_the_time_it_named(account: Account, clock: Clock) -> None:
    account.shut(until_s=2.0)
    clock.now_s += 5.0
    account.sent(0, 1)
    told = account.report()
    assert (told["outage_s"], told["idle_s"], told["allowed_bytes"]) == (2.0, 3.0, 300.0)


def test_answers_under_way_could_use_a_busy_server(account: Account, clock: Clock) -> None:
    with account.serving():
        account.shut(until_s=4.0)
        clock.now_s += 1.0
    clock.now_s += 3.0
    account.sent(0, 1)
    told = account.report()
    assert (told["outage_s"], told["allowed_bytes"]) == (3.0, 100.0)


def test_time_ends_with_the_last_byte(account: Account, clock: Clock) -> None:
    clock.now_s += 10.0
    account.sent(0, 1000)
    clock.now_s += 90.0
    assert account.report()["seconds"] == 10.0


def blows(seed: int, piece_bytes: int = 32_768) -> list[tuple[int, Blow | None]]:
    """What 300 MB suffer, and after how many bytes."""
    hell = Hell(seed=seed, cut_bytes=(5 * MB, 20 * MB), stall_bytes=30 * MB)
    fates = Fates(hell)
    steps = range(piece_bytes, 300 * MB, piece_bytes)
    told = [(at, fates.carried(piece_bytes)) for at in steps]
    return [(at, blow) for at, blow in told if blow]


def test_the_same_seed_gives_the_same_faults() -> None:
    assert blows(7) == blows(7) != blows(8)


def test_cuts_and_stalls_come_as_often_as_they_are_to() -> None:
    cuts = [at for at, blow in blows(1) if blow in (Blow.RESET, Blow.FIN)]
    gaps = [b - a for a, b in pairwise(cuts)]
    assert 5 * MB <= min(gaps) <= max(gaps) <= 20 * MB + 32_768
    stalls = [at for at, blow in blows(1) if blow in (Blow.SILENCE, Blow.DRIP)]
    assert len(stalls) == 6  # of nine; each third waits for the next answer
    assert {blow for _at, blow in blows(1)} == set(Blow)


def test_bursts_return() -> None:
    times = Fates(Hell(seed=1)).times("x", Burst(first_s=3.0, every_s=10.0, for_s=2.0))
    begun = [next(times) for _ in range(50)]
    assert begun[0] == (3.0, 5.0)
    gaps = [b[0] - a[1] for a, b in pairwise(begun)]
    assert 5.0 <= min(gaps) <= max(gaps) <= 15.0
