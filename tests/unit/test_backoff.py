"""The waits between restarts: they grow, and end."""

from __future__ import annotations

from moshid.backoff import Backoff


def test_backoff_grows_and_gives_up() -> None:
    backoff = Backoff(1.0, tries_max=3)
    waits = [backoff.next_s() for _ in range(4)]
    assert waits[3] is None
    assert [w is not None and 0.8 * 2**i <= w <= 1.2 * 2**i for i, w in enumerate(waits[:3])] == [
        True
    ] * 3
    backoff.reset()
    assert backoff.next_s() is not None
