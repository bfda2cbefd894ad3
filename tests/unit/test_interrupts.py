"""What ends a program comes between two steps of its own."""

from __future__ import annotations

import signal
import threading

import pytest

from moshid.demo import interrupts


def interrupted_between(number: signal.Signals, done: list[str]) -> None:
    """A block in which a signal comes before it is through, and what stands after it."""
    with interrupts.raised():
        with interrupts.held():
            signal.raise_signal(number)
            done.append("the child is known")
        done.append("it goes on")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, SystemExit),
        (signal.SIGHUP, SystemExit),
    ],
)
def test_what_ends_the_program_waits_for_the_end_of_the_block(
    number: signal.Signals, kind: type[BaseException]
) -> None:
    before = signal.getsignal(number)
    done: list[str] = []
    with pytest.raises(kind) as ended:
        interrupted_between(number, done)
    assert done == ["the child is known"]
    assert signal.getsignal(number) == before
    if isinstance(ended.value, SystemExit):
        assert ended.value.code == 128 + number


def ended_after(done: list[str]) -> None:
    with interrupts.raised():
        with interrupts.held():
            done.append("before")
        signal.raise_signal(signal.SIGTERM)
        done.append("after")


def test_what_comes_after_the_block_comes_at_once() -> None:
    done: list[str] = []
    with pytest.raises(SystemExit):
        ended_after(done)
    assert done == ["before"]


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.raised(), interrupts.held():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_has_no_signals_to_hold() -> None:
    held = []

    def hold() -> None:
        with interrupts.held():
            held.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert held == [signal.default_int_handler]
