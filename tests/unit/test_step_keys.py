"""Random keys on the host are MLX's own."""

from __future__ import annotations

import mlx.core as mx
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.model.keys import KeySequence, threefry


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**64 - 1))
def test_the_keys_are_those_of_mx_random(seed: int) -> None:
    sequence = KeySequence(seed)
    key = mx.random.key(seed)
    for _ in range(5):
        key, drawn = mx.random.split(key)
        assert sequence.next() == tuple(drawn.tolist())


def test_threefry_gives_the_reference_vectors() -> None:
    """Random123's known answers for threefry2x32 with 20 rounds."""
    ones = 0xFFFFFFFF
    assert threefry((0, 0), 0, 0) == (0x6B200159, 0x99BA4EFE)
    assert threefry((ones, ones), ones, ones) == (0x1CB996FC, 0xBB002BE7)
    assert threefry((0x13198A2E, 0x03707344), 0x243F6A88, 0x85A308D3) == (0xC4923A9C, 0x483DF7A0)
