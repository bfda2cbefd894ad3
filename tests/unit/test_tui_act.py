"""What keys do in the terminal UI: each to its call, and what is asked first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moshi_client.tui import act, reduce
from moshi_client.tui.hold import FIRST_REPEAT_S, NEXT_REPEAT_S, Hold, Phase
from moshi_client.tui.keys import Keys
from moshi_client.tui.state import Call, Cancel, Effect, Quit, Redraw, State
from tests.fakes.tui_states import job, listening, talk


def press(state: State, *keys: str, now_s: float = 0.0) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for key in keys:
        state, effects = reduce.admit(*act.pressed(state, key, now_s))
    return state, effects


def test_t_starts_a_talk_once() -> None:
    state = State(talk_params={"ensure": True, "model": "demo"})
    state, effects = press(state, "t")
    assert effects == [Call("talk.start", "talk.start", {"ensure": True, "model": "demo"})]
    assert press(state, "t")[1] == []
    assert press(state, "s")[1] == [Cancel("talk.start")]


def test_s_stops_our_talk_and_asks_before_it_stops_another() -> None:
    stop = Call("talk.stop", "talk.stop")
    assert press(replace(listening(), own_session="s1"), "s")[1] == [stop]
    state, effects = press(listening(), "s")
    assert effects == []
    assert state.question is not None
    assert state.question.text == "somebody/1 started this talk. Stop it?"
    assert press(state, "y")[1] == [stop]
    assert press(state, "n", "s")[0].question is not None
    assert press(State(), "s")[1] == []


@pytest.mark.parametrize(
    ("key", "controls"),
    [
        ("m", {"muted": True}),
        ("p", {"paused": True}),
        ("+", {"volume": 1.1}),
        ("=", {"volume": 1.1}),
        ("-", {"volume": 0.9}),
        ("o", {"push_to_talk": False, "talking": False, "muted": False}),
        ("space", {"push_to_talk": True, "talking": True}),
    ],
)
def test_a_key_sets_its_control(key: str, controls: dict[str, object]) -> None:
    state, effects = press(listening(), key)
    assert effects == [Call("talk.set", "talk.set", controls)]
    assert {name: state.controls[name] for name in controls} == controls
    state, effects = press(State(), key)
    assert effects == []
    assert state.note is not None


def test_volume_ends_at_its_limits() -> None:
    state = listening(controls={"volume": 1.95})
    assert press(state, "+")[1] == [Call("talk.set", "talk.set", {"volume": 2.0})]
    state = listening(controls={"volume": 0.05})
    assert press(state, "-")[1] == [Call("talk.set", "talk.set", {"volume": 0.0})]


def test_keys_that_come_faster_than_answers_are_added_up() -> None:
    state, effects = press(listening(), "+", "+", "+")
    assert effects == [], "the first call is not answered yet"
    assert state.controls["volume"] == 1.3
    told = {"controls": {**state.talk["controls"], "volume": 1.1}}
    state, effects = reduce.answered(state, "talk.set", told)
    assert effects == [Call("talk.set", "talk.set", {"volume": 1.3})]


def test_a_held_space_talks_until_it_repeats_no_more() -> None:
    state, effects = press(listening(), "space", now_s=0.0)
    state, _ = reduce.answered(state, "talk.set", {})
    for now_s in (0.5, 0.6, 0.7):
        state, effects = press(state, "space", now_s=now_s)
        assert effects == []
    assert act.passed(state, 0.7 + NEXT_REPEAT_S * 0.9)[1] == []
    state, effects = act.passed(state, 0.7 + NEXT_REPEAT_S)
    assert effects == [Call("talk.set", "talk.set", {"push_to_talk": True, "talking": False})]


def test_ctrl_z_lets_the_space_key_go() -> None:
    state, _ = press(listening(), "space")
    state, effects = act.suspended(replace(state, pending=frozenset()))
    assert effects == [Call("talk.set", "talk.set", {"push_to_talk": True, "talking": False})]
    assert act.suspended(state)[1] == []


def test_a_tapped_space_talks_until_the_next_tap_however_long_that_is_held() -> None:
    hold = Hold().press(0.0).passed(FIRST_REPEAT_S)
    assert (hold.phase, hold.deadline_s) == (Phase.LATCHED, None)
    assert hold.passed(1000.0).talking
    hold = hold.press(10.0)
    assert not hold.talking
    for now_s in (10.5, 10.55, 10.6):
        hold = hold.press(now_s)
        assert not hold.talking, "repeats of the tap that ended it"
    assert hold.passed(10.6 + NEXT_REPEAT_S).phase is Phase.OFF
    assert hold.press(11.5).talking


def test_downloads_are_chosen_paused_and_resumed() -> None:
    state = State(jobs=(job("a", "done"), job("b"), job("c", "paused")))
    state, effects = press(state, "d")
    assert effects == [Call("download", "download.pause", {"id": "b"})], "what goes on is first"
    state, effects = press(replace(state, pending=frozenset()), "down", "d")
    assert effects == [Call("download", "download.resume", {"id": "c"})]
    state, effects = press(replace(state, pending=frozenset()), "down", "down", "d")
    assert effects == []
    assert state.note is not None
    assert press(state, "up")[0].selected == "c"
    assert press(State(), "down", "d")[1] == []


def test_cancel_asks_first() -> None:
    state, effects = press(State(jobs=(job("b"),)), "x")
    assert effects == []
    assert state.question is not None
    assert "Cancel the download of kyutai/b" in state.question.text
    for no in ("n", "q", "escape", "enter"):
        assert press(state, no) == (replace(state, question=None), [])
    assert press(state, "t", "+") == (state, []), "other keys are no answer"
    assert press(state, "y")[1] == [Call("download", "download.cancel", {"id": "b"})]
    assert press(State(jobs=(job("b", "done"),)), "x")[0].question is None


def test_q_quits_and_asks_when_a_talk_of_ours_would_end() -> None:
    assert press(State(), "q")[1] == [Quit(0)]
    assert press(listening(), "q")[1] == [Quit(0)], "another's talk goes on"
    state, effects = press(replace(listening(), own_session="s1"), "q")
    assert effects == []
    assert press(state, "y")[1] == [Quit(0)]


def test_ctrl_c_quits_and_a_second_one_needs_no_yes() -> None:
    assert act.interrupted(State())[1] == [Quit(130)]
    state, effects = act.interrupted(replace(listening(), own_session="s1"))
    assert effects == []
    assert act.interrupted(state)[1] == [Quit(130)]


def test_help_comes_and_goes_with_any_key() -> None:
    state, _ = press(State(), "?")
    assert state.help
    assert press(state, "q") == (State(), [])


def test_without_a_daemon_only_looking_is_possible() -> None:
    state = replace(listening(), connected=False)
    for key in act._NEEDS_DAEMON:
        state, effects = press(state, key)
        assert effects == []
        assert state.note is not None
    assert press(state, "q")[1] == [Quit(0)]


def test_ctrl_l_draws_anew_also_over_a_question() -> None:
    state, _ = press(State(jobs=(job("b"),)), "x")
    shown, effects = press(state, "redraw")
    assert shown.question == state.question
    assert effects == [Redraw(), Call("daemon.status", "daemon.status")]
    assert press(replace(state, connected=False), "redraw")[1] == [Redraw()]


@pytest.mark.parametrize(
    ("pieces", "keys"),
    [
        ([b"t"], ["t"]),
        ([b"\x1b[A\x1b[B\x1bOA"], ["up", "down", "up"]),
        ([b"\x1b", b"[5", b"~"], ["page_up"]),
        ([b" \r\x0c"], ["space", "enter", "redraw"]),
        (["é日".encode()], ["é", "日"]),
        (["日".encode()[:1], "日".encode()[1:]], ["日"]),
        ([b"\x1b[1;5Cx"], ["x"]),
        ([b"\x1bx", b"q"], ["q"]),
        ([b"\x1b[200~qqq\x1b[A", b"yy\x1b[20", b"1~t"], ["t"]),
        ([b"\x00\x7f\xff"], ["\ufffd"]),
        ([b"\x1b\x1b[A"], ["escape", "up"]),
    ],
)
def test_bytes_are_keys(pieces: list[bytes], keys: list[str]) -> None:
    reader = Keys()
    assert [key for piece in pieces for key in reader.feed(piece)] == keys
    assert not reader.is_waiting


def test_an_escape_alone_is_known_when_nothing_follows() -> None:
    reader = Keys()
    assert reader.feed(b"\x1b") == []
    assert reader.is_waiting
    assert reader.flush() == ["escape"]
    assert reader.feed(b"\x1b[") == []
    assert reader.flush() == []
    assert reader.feed(b"\x1b[" + b"1" * 1000) == [], "no key is that long"
    assert reader.feed(b"q") == ["q"]


def test_talking_is_told_again_in_the_next_talk() -> None:
    state, _ = press(listening(), "space")
    state, _ = reduce.notified(
        state, "event", {"topic": "talk", "data": {"status": talk("listening", "s2")}}
    )
    assert state.hold == Hold()
    assert press(replace(state, pending=frozenset()), "space")[1] == [
        Call("talk.set", "talk.set", {"push_to_talk": True, "talking": True})
    ]
