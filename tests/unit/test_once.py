"""When addresses are taken for good for one request each."""

from __future__ import annotations

from moshid.downloads.once import SPENT_MAX, Once


def test_addresses_that_are_spent_by_one_request() -> None:
    once = Once()
    for _ in range(SPENT_MAX):
        assert not once.is_so
        once.gave(object())
        once.refused()
    assert once.is_so


def test_addresses_that_are_spent_by_the_question_for_them() -> None:
    once = Once()
    for _ in range(SPENT_MAX):
        once.refused()
    assert once.is_so


def test_refusals_now_and_then_of_addresses_that_are_good_for_many() -> None:
    """A line that loses 2 % of its answers to 403s, and URLs that live for seconds."""
    once = Once()
    for _ in range(5 * SPENT_MAX):
        address = object()
        once.gave(address)
        once.gave(address)
        once.refused()
    assert not once.is_so


def test_what_is_known_stays_known() -> None:
    once, way = Once(), object()
    for _ in range(SPENT_MAX):
        once.refused()
    once.gave(way)
    once.gave(way)
    assert once.is_so
