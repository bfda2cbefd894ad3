"""Limits and shares by a clock that is put forward by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moshid.downloads.shares import PIECE_BYTES_MIN, PIECE_S, Bucket, Queue, Share
from moshid.downloads.terms import Priority, connections_for, divide

MIB = 1 << 20


class Readers:
    """So many readers of each share, which ask again as soon as they were served."""

    def __init__(self, queue: Queue, shares: list[Share], each: int = 4) -> None:
        self.queue = queue
        self.got = dict.fromkeys(map(id, shares), 0)
        self.grants: list[int] = []
        for share in shares:
            for _ in range(each):
                queue.ask(share, MIB)

    def run(self, from_s: float, to_s: float) -> None:
        """Serve whenever something may be served."""
        now_s = from_s
        while now_s < to_s:
            for ask, count in self.queue.serve(now_s):
                self.got[id(ask.share)] += count
                self.grants.append(count)
                self.queue.ask(ask.share, MIB)
            wait_s = self.queue.next_s(now_s)
            assert wait_s is not None
            now_s += max(wait_s, 1e-6)


@given(st.integers(2_000, 200_000_000), st.integers(1, 8), st.floats(0.5, 20.0))
def test_a_limit_is_kept_over_any_time(rate_bps: int, readers: int, span_s: float) -> None:
    share = Share(1)
    queue = Queue(Bucket(rate_bps))
    work = Readers(queue, [share], readers)
    work.run(0.0, span_s)
    piece = max(PIECE_BYTES_MIN, int(rate_bps * PIECE_S))
    assert work.got[id(share)] <= rate_bps * span_s + 2 * piece
    assert work.got[id(share)] >= rate_bps * span_s - 2 * piece
    assert max(work.grants) <= piece


def test_idle_time_is_not_saved_up() -> None:
    queue, share = Queue(Bucket(1_000_000)), Share(1)
    work = Readers(queue, [share], 1)
    work.run(0.0, 1.0)
    before = work.got[id(share)]
    work.run(3601.0, 3602.0)
    assert work.got[id(share)] - before <= 1_000_000 + 2 * 100_000


def test_a_jobs_own_limit_goes_beside_the_total() -> None:
    slow, free = Share(4, Bucket(100_000)), Share(4)
    queue = Queue(Bucket(1_000_000))
    work = Readers(queue, [slow, free])
    work.run(0.0, 10.0)
    assert abs(work.got[id(slow)] - 1_000_000) <= 200_000
    assert abs(work.got[id(free)] - 9_000_000) <= 400_000


def test_the_line_is_shared_by_weight_whatever_the_number_of_readers() -> None:
    high, normal = Share(Priority.HIGH.weight), Share(Priority.NORMAL.weight)
    queue = Queue(Bucket(1_000_000))
    work = Readers(queue, [normal], 8)
    work.run(0.0, 5.0)
    assert work.got[id(normal)] >= 4_800_000, "alone it has all"
    late = Readers(queue, [high], 1)
    late.got |= work.got
    late.run(5.0, 25.0)
    since = late.got[id(normal)] - work.got[id(normal)]
    assert 3.5 <= late.got[id(high)] / since <= 4.5


def test_what_is_given_back_is_there_and_what_is_overdrawn_is_owed() -> None:
    queue, share = Queue(Bucket(100_000)), Share(1)
    queue.ask(share, MIB)
    ((_, count),) = queue.serve(0.0)
    queue.charge(share, -count)
    assert queue.total.wait_s(0.0) == 0.0
    queue.charge(share, 50_000)
    queue.ask(share, MIB)
    assert queue.serve(0.4) == []
    assert len(queue.serve(0.51)) == 1


def test_without_a_limit_everybody_gets_what_he_wants() -> None:
    queue, share = Queue(Bucket()), Share(1)
    asks = [queue.ask(share, 5 * MIB) for _ in range(3)]
    assert queue.serve(0.0) == [(ask, 5 * MIB) for ask in asks]
    assert queue.next_s(0.0) is None


def test_a_reader_that_left_is_not_served() -> None:
    queue, share = Queue(Bucket(1)), Share(1)
    ask = queue.ask(share, 1)
    queue.withdraw(ask)
    queue.withdraw(ask)
    assert queue.serve(0.0) == []


@given(st.integers(1, 64), st.lists(st.sampled_from([1, 4, 16]), min_size=1, max_size=10))
def test_connections_are_divided_by_weight_and_everybody_has_one(
    seats: int, weights: list[int]
) -> None:
    weights.sort(reverse=True)
    parts = divide(seats, weights)
    assert min(parts) >= 1
    assert sum(parts) == max(seats, len(parts))


def test_a_small_limit_wants_few_connections() -> None:
    assert connections_for(None, 8) == 8
    assert connections_for(20_000_000, 8) == 8
    assert connections_for(500_000, 8) == 4
    assert connections_for(1_000, 8) == 1
    assert divide(8, [4, 4]) == [4, 4]
    assert divide(8, [16, 4]) == [7, 1]
    assert divide(8, [16, 1, 1, 1]) == [5, 1, 1, 1]
