"""How long an idle model stays: uses, deadlines, warmth; by a clock that is set by hand."""

from __future__ import annotations

from moshid.model.keeping import WARM_AFTER_CALL_S, Keeping


class Clock:
    """Seconds since the epoch, as the test wants them."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def keeping_of(keep_alive_s: float | None) -> tuple[Keeping, Clock]:
    clock = Clock()
    return Keeping(keep_alive_s, clock=clock), clock


def test_for_ever_has_no_deadline() -> None:
    keeping, clock = keeping_of(None)
    keeping.loaded()
    clock.now_s += 1e9
    assert (keeping.until, keeping.left_s) == (None, None)


def test_the_time_counts_from_the_load_and_from_the_end_of_the_last_use() -> None:
    keeping, clock = keeping_of(60.0)
    keeping.loaded()
    assert keeping.until == "1970-01-12T13:47:40Z"
    clock.now_s += 59.0
    assert keeping.left_s == 1.0
    keeping.begin("talk")
    keeping.begin("bench")
    clock.now_s += 500.0
    assert keeping.until is None, "never in a use"
    keeping.end("talk")
    assert keeping.until is None, "one is going on"
    keeping.end("bench")
    assert keeping.left_s == 60.0
    clock.now_s += 600.0
    assert keeping.left_s == 0.0, "a machine that slept past it unloads when it wakes"


def test_no_time_at_all_is_until_the_next_use_is_over() -> None:
    keeping, _ = keeping_of(0.0)
    keeping.loaded()
    assert keeping.left_s is None
    keeping.begin("talk")
    keeping.end("talk")
    assert keeping.left_s == 0.0


def test_what_nobody_asked_for_is_no_use_that_no_time_waits_for() -> None:
    keeping, _ = keeping_of(0.0)
    keeping.loaded()
    keeping.begin("bench")
    keeping.end("bench", asked=False)
    assert keeping.left_s is None
    keeping.begin("talk")
    keeping.begin("bench")
    keeping.end("bench", asked=False)
    keeping.end("talk")
    assert keeping.left_s == 0.0


def test_with_no_time_a_use_given_up_before_the_model_came_is_the_one() -> None:
    keeping, _ = keeping_of(0.0)
    keeping.wanted()
    keeping.begin("talk")
    keeping.begin("load")
    keeping.end("talk")
    keeping.loaded()
    keeping.end("load", asked=False)
    assert keeping.left_s == 0.0


def test_with_no_time_a_talk_given_up_while_the_model_recovers_is_its_last() -> None:
    keeping, _ = keeping_of(0.0)
    keeping.loaded()
    keeping.begin("talk")
    keeping.end("talk")
    keeping.loaded()
    assert keeping.left_s == 0.0


def test_another_load_keeps_a_model_whose_time_of_0_is_due() -> None:
    keeping, _ = keeping_of(0.0)
    keeping.loaded()
    keeping.begin("talk")
    keeping.end("talk")
    keeping.wanted()
    keeping.begin("load")
    keeping.end("load", asked=False)
    assert keeping.left_s is None


def test_what_is_not_resident_has_no_deadline() -> None:
    keeping, _ = keeping_of(60.0)
    keeping.loaded()
    keeping.failed()
    assert keeping.until is None
    keeping.begin("load")
    keeping.end("load", asked=False)
    keeping.keep(5.0)
    assert keeping.until is None
    keeping.loaded()
    assert keeping.left_s == 5.0


def test_a_use_that_ends_twice_counts_once() -> None:
    keeping, clock = keeping_of(60.0)
    keeping.loaded()
    keeping.begin("talk")
    keeping.end("talk")
    clock.now_s += 10.0
    keeping.end("talk")
    assert keeping.left_s == 50.0


def test_a_time_that_is_set_holds_for_this_model_only() -> None:
    keeping, clock = keeping_of(None)
    keeping.keep(30.0)
    assert keeping.left_s is None, "it is on its way"
    keeping.loaded()
    assert keeping.left_s == 30.0
    clock.now_s += 20.0
    keeping.keep(5.0)
    assert keeping.left_s == 5.0
    keeping.keep(None)
    assert keeping.until is None
    keeping.keep(7.0)
    keeping.gone()
    assert (keeping.until, keeping.keep_alive_s) == (None, None)


def test_who_waits_hears_of_each_change() -> None:
    heard: list[str] = []
    keeping = Keeping(60.0, clock=Clock(), changed=lambda: heard.append("changed"))
    keeping.loaded()
    keeping.begin("talk")
    keeping.begin("talk")
    keeping.end("talk")
    assert len(heard) == 3


def test_a_model_is_kept_warm_in_use_and_ten_minutes_after_a_call() -> None:
    keeping, clock = keeping_of(None)
    assert not keeping.wants_warmth
    keeping.begin("talk")
    assert keeping.wants_warmth
    keeping.end("talk")
    assert not keeping.wants_warmth
    keeping.note_call()
    clock.now_s += WARM_AFTER_CALL_S - 1
    assert keeping.wants_warmth
    clock.now_s += 2
    assert not keeping.wants_warmth
