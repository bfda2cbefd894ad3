"""What the daemon says, in the terminal UI's state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moshi_client.tui import reduce
from moshi_client.tui.state import (
    LOG_MAX,
    TRANSCRIPT_MAX,
    Call,
    Question,
    State,
)
from tests.fakes.tui_states import CONTROLS, LOG, MODEL, event, job, listening, say, talk


def test_the_snapshot_is_what_is_shown_first() -> None:
    snapshot = {
        "model": {"status": MODEL},
        "download": {"jobs": [job()]},
        "talk": {"status": talk()},
        "log": {"lines": [LOG]},
    }
    state, effects = reduce.answered(State(), "subscribe", {"snapshot": snapshot})
    assert (state.model, state.jobs, state.log) == (MODEL, (job(),), (LOG,))
    assert state.talks
    assert not state.owns_talk
    assert effects == []


def test_a_job_is_replaced_by_its_newer_self_and_forgotten_when_it_is_gone() -> None:
    state = State(jobs=(job("a"), job("b")))
    state, _ = event(state, "download", job=job("a", "paused"))
    assert [j["state"] for j in state.jobs] == ["paused", "downloading"]
    state, _ = event(state, "download", job=job("c"))
    assert [j["id"] for j in state.jobs] == ["a", "b", "c"]
    state, _ = event(state, "download", job=job("a"), forgotten=True)
    state, _ = event(state, "download", job=job("b"), absorbed_by="c")
    assert [j["id"] for j in state.jobs] == ["c"]


def test_words_are_joined_and_a_pause_begins_a_paragraph() -> None:
    state = replace(State(), talk=talk())
    for piece, t_s in ((" Hel", 1.0), ("lo.", 1.2), (" Yes.", 5.0)):
        state = say(state, piece, t_s)
    assert [(p.text, p.begins_s) for p in state.transcript] == [("Hello.", 1.0), ("Yes.", 5.0)]
    assert say(state, "other", 6.0, session="s0") == state


def test_a_new_talk_begins_with_an_empty_page() -> None:
    state = listening()
    state, _ = event(state, "talk", session="s1", state="stopped", status=talk("stopped"))
    assert state.transcript, "the last one can still be read"
    assert state.levels == {}
    state, _ = event(state, "talk", session="s2", state="starting", status=talk("starting", "s2"))
    assert state.transcript == ()


def test_nothing_grows_without_end() -> None:
    state = replace(State(), talk=talk())
    for number in range(TRANSCRIPT_MAX + 50):
        state = say(state, f"{number}", number * 10.0)
        state, _ = event(state, "log", **LOG)
    assert len(state.transcript) == TRANSCRIPT_MAX
    assert state.transcript[-1].text == str(TRANSCRIPT_MAX + 49)
    assert len(state.log) == LOG_MAX
    for number in range(3000):
        state = say(state, "word ", 4500.0 + number * 0.08)
    assert all(len(p.text) < 2100 for p in state.transcript)


def test_the_steps_times_are_asked_for_during_a_talk_alone() -> None:
    def asked(before: dict[str, Any], after: dict[str, Any]) -> bool:
        state = replace(State(), talk=before)
        _, effects = event(state, "talk", session="s1", state=after["state"], status=after)
        return effects == [Call("model.status", "model.status")]

    assert asked(talk(seconds=1.9), talk(seconds=2.1))
    assert not asked(talk(seconds=2.1), talk(seconds=2.9))
    assert not asked(talk(seconds=2.9), talk("stopped", seconds=4.0))
    for topic, data in (("model", {"status": MODEL}), ("download", {"job": job()}), ("log", LOG)):
        _, effects = event(listening(), topic, **data)
        assert effects == [], "an idle daemon is left alone"


def test_a_talk_that_failed_says_why() -> None:
    failed = talk("failed", error={"kind": "audio.no_device", "message": "no microphone"})
    state, _ = event(listening(), "talk", session="s1", state="failed", status=failed)
    assert state.note is not None
    assert (state.note.text, state.note.is_error) == ("no microphone", True)


def test_news_of_a_talk_stand_in_the_log() -> None:
    state, _ = event(
        listening(), "talk", session="s1", state="listening", event="device", name="Mic", gone=True
    )
    assert state.log[-1]["msg"] == "device name=Mic gone=True"
    assert state.talk_state == "listening"


def test_our_talk_is_known_by_its_answer_whatever_came_first() -> None:
    state = replace(State(), pending=frozenset({"talk.start"}))
    assert state.owns_talk, "it ends with us before we know its name"
    state, _ = event(state, "talk", session="s1", state="listening", status=talk(seconds=0.5))
    result = {"session": talk(seconds=0.0), "seed": 1}
    state, _ = reduce.answered(state, "talk.start", result)
    assert state.own_session == "s1"
    assert state.talk["seconds"] == 0.5, "events are newer than the answer"
    assert state.pending == frozenset()


def test_a_big_download_is_asked_about_and_a_yes_confirms() -> None:
    state = State(talk_params={"ensure": True, "model": "moshiko"})
    error = {"kind": "talk.confirm_download", "message": "moshiko q4: 4.8 GB, about 7 min"}
    state, _ = reduce.refused(state, "talk.start", error)
    start = {"ensure": True, "model": "moshiko", "confirm": True}
    assert state.question == Question(
        "moshiko q4: 4.8 GB, about 7 min. Download it now?",
        (Call("talk.start", "talk.start", start),),
    )


def test_a_refusal_is_shown_with_what_to_do() -> None:
    error = {"kind": "talk.busy", "message": "a talk is going on", "hint": "Stop it."}
    state, effects = reduce.refused(State(), "talk.start", error)
    assert state.note is not None
    assert state.note.text == "a talk is going on (Stop it.)"
    assert effects == []


def test_controls_are_sent_one_call_at_a_time_and_none_is_lost() -> None:
    state = replace(listening(), wanted={"volume": 0.9})
    state, effects = reduce.admit(*reduce.send_controls(state))
    assert effects == [Call("talk.set", "talk.set", {"volume": 0.9})]
    assert state.controls["volume"] == 0.9, "shown at once"
    state = replace(state, wanted={"volume": 0.8, "muted": True})
    state, effects = reduce.send_controls(state)
    assert effects == []
    state, effects = reduce.answered(state, "talk.set", {"controls": CONTROLS})
    assert effects == [Call("talk.set", "talk.set", {"volume": 0.8, "muted": True})]


def test_one_call_of_a_tag_waits_at_a_time() -> None:
    call = Call("download", "download.pause", {"id": "j"})
    state, effects = reduce.admit(State(), [call, call])
    assert effects == [call]
    assert reduce.admit(state, [call]) == (state, [])
    state, _ = reduce.answered(state, "download", {"job": job("j1", "paused")})
    assert state.jobs == (job("j1", "paused"),)
    assert reduce.admit(state, [call])[1] == [call]


def test_losing_the_daemon_takes_what_it_carried() -> None:
    state = replace(listening(), own_session="s1", pending=frozenset({"talk.stop"}))
    state, _ = reduce.lost(state)
    assert state.note is not None
    assert "and the talk with it" in state.note.text
    assert (state.connected, state.talks, state.pending) == (False, False, frozenset())
    assert state.transcript
    assert state.jobs
    state, _ = reduce.connected(state, {"version": "0.2.0"})
    assert (state.connected, state.daemon) == (True, {"version": "0.2.0"})
    assert state.note is not None
    assert state.note.text == "the daemon is back"


def test_lost_events_are_counted() -> None:
    state, _ = reduce.notified(State(), "events.lagged", {"dropped": 3, "seq": 9})
    state, _ = reduce.notified(state, "events.lagged", {"dropped": 2, "seq": 19})
    assert state.events_lost == 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.sampled_from(["daemon", "model", "download", "talk", "talk.text", "talk.level", "odd"]),
    st.dictionaries(
        st.sampled_from(["status", "job", "text", "session", "state", "event", "t_s", "x"]),
        json_values,
    ),
)
def test_an_event_of_no_sense_breaks_nothing(topic: str, data: dict[str, Any]) -> None:
    state, _ = event(listening(), topic, **data)
    assert isinstance(state, State)


@pytest.mark.parametrize("data", [None, 3, "x", []])
def test_events_without_data_are_left_out(data: object) -> None:
    state = listening()
    assert reduce.notified(state, "event", {"topic": "talk", "data": data}) == (state, [])
    assert reduce.notified(state, "odd", {}) == (state, [])
