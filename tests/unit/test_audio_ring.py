"""The ring between the callback and the main thread."""

from __future__ import annotations

import sys
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moshid.audio.ring import Ring, Samples


def ramp(start: int, n: int) -> Samples:
    return np.arange(start, start + n, dtype=np.float32)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 13)), max_size=60))
def test_what_goes_in_comes_out_in_order_and_the_rest_is_counted(
    steps: list[tuple[bool, int]],
) -> None:
    ring = Ring(10)
    model: list[float] = []
    fed = lost = missing = 0
    for writes, n in steps:
        if writes:
            took = min(n, 10 - len(model))
            assert ring.write(ramp(fed, n)) == took
            model += ramp(fed, took).tolist()
            fed, lost = fed + n, lost + n - took
        else:
            out = np.full(n, 7.0, dtype=np.float32)
            there = min(n, len(model))
            peeked = ring.peek(n)
            assert (None if peeked is None else peeked.tolist()) == (
                model[:n] if n == there else None
            )
            assert ring.read_into(out) == there
            assert out.tolist() == model[:there] + [0.0] * (n - there)
            del model[:there]
            missing += n - there
        assert len(ring) == len(model)
    assert (ring.overrun, ring.underrun) == (lost, missing)


def test_take_waits_for_enough_and_counts_no_underrun() -> None:
    ring = Ring(8)
    ring.write(ramp(0, 3))
    assert ring.take(4) is None
    ring.write(ramp(3, 3))
    taken = ring.take(4)
    assert taken is not None
    assert taken.tolist() == [0, 1, 2, 3]
    assert ring.underrun == 0


def test_two_threads_lose_nothing() -> None:
    ring, total = Ring(4_001), 400_000
    source = ramp(0, total)
    heard: list[Samples] = []

    def produce() -> None:
        at = 0
        while at < total:
            room = min(997, ring.capacity - len(ring), total - at)
            at += ring.write(source[at : at + room])

    thread = threading.Thread(target=produce)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        got = 0
        while got < total:
            block = ring.take(len(ring))
            assert block is not None
            heard.append(block)
            got += len(block)
        thread.join()
    finally:
        sys.setswitchinterval(switch_s)
    assert np.array_equal(np.concatenate(heard), source)
    assert ring.overrun == 0
