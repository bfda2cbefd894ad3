"""What the daemon says, taken into the state: state and message → state and effects. Pure.

Events may have been lost (a slow machine); each one carries the whole of its thing, so the newest
is right whatever came before. Whatever is malformed is left out rather than believed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moshi_client.tui.hold import Hold
from moshi_client.tui.state import (
    LOG_MAX,
    PARAGRAPH_CHARS_MAX,
    TRANSCRIPT_MAX,
    Call,
    Effect,
    Json,
    Note,
    Paragraph,
    Question,
    State,
)

PAUSE_S = 2.0
"""So long without a word begins a new paragraph."""

STEPS_EVERY_S = 2.0
"""Seconds of talk between two looks at the steps' times."""

Step = tuple[State, list[Effect]]


def connected(state: State, hello: Json) -> Step:
    """A connection that is greeted: nothing of an earlier one holds any more."""
    fresh = State(
        talk_params=state.talk_params,
        daemon=dict(hello),
        transcript=state.transcript,
        selected=state.selected,
        help=state.help,
        note=None if state.connected else Note("the daemon is back"),
    )
    return fresh, []


def lost(state: State) -> Step:
    """The daemon went away, and everything that it carried with it."""
    owned = state.owns_talk
    note = "the daemon went away, and the talk with it" if owned else "the daemon went away"
    fresh = State(
        talk_params=state.talk_params,
        connected=False,
        daemon=state.daemon,
        jobs=state.jobs,
        transcript=state.transcript,
        log=state.log,
        selected=state.selected,
        help=state.help,
        note=Note(note, is_error=True),
    )
    return fresh, []


def notified(state: State, method: str, params: Json) -> Step:
    """A notification: an event, or that events were lost."""
    if method == "events.lagged":
        return replace(state, events_lost=state.events_lost + int(params.get("dropped") or 0)), []
    data = params.get("data")
    if method != "event" or not isinstance(data, dict):
        return state, []
    topic = str(params.get("topic"))
    take = _TOPICS.get(topic)
    return take(state, data) if take else (state, [])


def answered(state: State, tag: str, result: Json) -> Step:
    """The answer to a call of that tag."""
    state = replace(state, pending=state.pending - {tag})
    match tag:
        case "subscribe":
            return _snapshot(state, result.get("snapshot") or {}), []
        case "daemon.status":
            return _status(state, result), []
        case "model.status":
            return replace(state, model=result), []
        case "talk.start":
            return _begun(state, result), []
        case "talk.stop":
            return replace(state, talk={**state.talk, **result}), []
        case "talk.set":
            told = result.get("controls") or {}
            talk = {**state.talk, "controls": told} if told else state.talk
            return send_controls(replace(state, talk=talk))
        case _ if isinstance(job := result.get("job"), dict):
            return _job(state, {"job": job})
    return state, []


def refused(state: State, tag: str, error: Json) -> Step:
    """A call of that tag was answered by an error: ``{kind, message, hint}``."""
    state = replace(state, pending=state.pending - {tag})
    kind, message = error.get("kind"), str(error.get("message") or "it failed")
    if tag == "talk.set":
        state = replace(state, wanted={})
    if kind == "rpc.cancelled":
        return replace(state, note=Note("the start was taken back")), []
    if kind == "talk.confirm_download":
        start = Call("talk.start", "talk.start", {**state.talk_params, "confirm": True})
        return replace(state, question=Question(f"{message}. Download it now?", (start,))), []
    hint = f" ({error['hint']})" if error.get("hint") else ""
    return replace(state, note=Note(message + hint, is_error=True)), []


def admit(state: State, effects: list[Effect]) -> Step:
    """The effects that may go out, and that their answers are waited for: one call of a tag at a
    time, so that a key that is held down does not fill the connection."""
    kept: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Call):
            if effect.tag in state.pending:
                continue
            state = replace(state, pending=state.pending | {effect.tag})
        kept.append(effect)
    return state, kept


def send_controls(state: State) -> Step:
    """Send the controls that are wanted, unless the call before is not answered yet."""
    if not state.wanted or "talk.set" in state.pending:
        return state, []
    talk = {**state.talk, "controls": state.controls}
    return replace(state, wanted={}, talk=talk), [Call("talk.set", "talk.set", state.wanted)]


def _snapshot(state: State, snapshot: Json) -> State:
    lines = (snapshot.get("log") or {}).get("lines") or []
    talk = (snapshot.get("talk") or {}).get("status") or {}
    return replace(
        state,
        transcript=() if talk.get("session") else state.transcript,
        model=(snapshot.get("model") or {}).get("status") or {},
        jobs=tuple((snapshot.get("download") or {}).get("jobs") or ()),
        talk=talk,
        log=tuple(entry for entry in lines if isinstance(entry, dict))[-LOG_MAX:],
    )


def _status(state: State, result: Json) -> State:
    parts = ("model", "talk", "downloads", "limits")
    daemon = {name: value for name, value in result.items() if name not in parts}
    return replace(
        state, daemon={**state.daemon, **daemon}, limits=result.get("limits") or state.limits
    )


def _begun(state: State, result: Json) -> State:
    status = result.get("session") or {}
    if state.talk.get("session") == status.get("session"):
        status = {**status, **state.talk}  # its events are newer
    return replace(state, own_session=status.get("session"), talk=status, note=None)


def _on_talk(state: State, data: Json) -> Step:
    before, status = state.talk, data.get("status")
    if not isinstance(status, dict):
        status = {**state.talk, **{k: data[k] for k in ("state", "session") if data.get(k)}}
    if status.get("session") != state.talk.get("session"):
        state = replace(state, transcript=(), levels={}, wanted={}, hold=Hold(), scrolled=0)
    state = replace(state, talk=status)
    if not state.talks:
        state = replace(state, levels={}, wanted={}, hold=Hold())
        if error := status.get("error"):
            state = replace(state, note=Note(_message(error), is_error=True))
        return state, []
    if data.get("event") not in (None, "controls"):
        state = replace(state, log=(*state.log, _news(data))[-LOG_MAX:])
    return state, _ask_for_steps(before, status)


def _ask_for_steps(before: Json, now: Json) -> list[Effect]:
    """The steps' times are told by no event. They are asked for during a talk alone: a call keeps
    the model warm, and an idle daemon with an open screen is to stay idle."""
    periods = [int((talk.get("seconds") or 0) / STEPS_EVERY_S) for talk in (before, now)]
    if now.get("state") != "listening" or periods[0] == periods[1]:
        return []
    return [Call("model.status", "model.status")]


def _news(data: Json) -> Json:
    """What happened in a talk, as a line of the log."""
    known = ("session", "state", "status", "event")
    told = {k: v for k, v in data.items() if k not in known and not isinstance(v, dict | list)}
    facts = " ".join(f"{k}={v}" for k, v in told.items())
    return {"t": "", "level": "info", "logger": "talk", "msg": f"{data['event']} {facts}".strip()}


def _on_text(state: State, data: Json) -> Step:
    piece, at_s = data.get("text"), data.get("t_s")
    if not isinstance(piece, str) or not _is_of_this_talk(state, data):
        return state, []
    last = state.transcript[-1] if state.transcript else None
    at_s = float(at_s) if isinstance(at_s, int | float) else (last.ends_s if last else 0.0)
    if last is None or at_s - last.ends_s > PAUSE_S or len(last.text) > PARAGRAPH_CHARS_MAX:
        added = Paragraph(piece.lstrip(), at_s, at_s)
        return replace(state, transcript=(*state.transcript, added)[-TRANSCRIPT_MAX:]), []
    longer = replace(last, text=last.text + piece, ends_s=at_s)
    return replace(state, transcript=(*state.transcript[:-1], longer)), []


def _on_level(state: State, data: Json) -> Step:
    return (replace(state, levels=data), []) if _is_of_this_talk(state, data) else (state, [])


def _is_of_this_talk(state: State, data: Json) -> bool:
    return state.talks and data.get("session") == state.talk.get("session")


def _on_model(state: State, data: Json) -> Step:
    status = data.get("status")
    return (replace(state, model=status), []) if isinstance(status, dict) else (state, [])


def _on_download(state: State, data: Json) -> Step:
    return _job(state, data) if isinstance(data.get("job"), dict) else (state, [])


def _job(state: State, data: Json) -> Step:
    job: Json = data["job"]
    gone = bool(data.get("forgotten") or data.get("absorbed_by"))
    known = {str(j.get("id")): j for j in state.jobs}
    if gone:
        known.pop(str(job.get("id")), None)
    else:
        known[str(job.get("id"))] = job
    return replace(state, jobs=tuple(known.values())), []


def _on_daemon(state: State, data: Json) -> Step:
    if data.get("event") != "stopping":
        return state, []
    return replace(state, stopping=True, note=Note("the daemon is stopping", is_error=True)), []


def _on_log(state: State, data: Json) -> Step:
    return replace(state, log=(*state.log, data)[-LOG_MAX:]), []


def _message(error: Any) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)


_TOPICS = {
    "talk": _on_talk,
    "talk.text": _on_text,
    "talk.level": _on_level,
    "model": _on_model,
    "download": _on_download,
    "daemon": _on_daemon,
    "log": _on_log,
}
