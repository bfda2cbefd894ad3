"""What the user types, taken into the state: state and key → state and effects. Pure.

``BINDINGS`` is the list of the keys, which the help shows and the documents name.
"""

from __future__ import annotations

from dataclasses import replace

from moshi_client import progress
from moshi_client.errors import EXIT_INTERRUPTED, EXIT_OK
from moshi_client.tui.hold import Hold
from moshi_client.tui.reduce import Step, send_controls
from moshi_client.tui.state import Call, Cancel, Json, Note, Question, Quit, Redraw, State

VOLUME_STEP, VOLUME_MAX = 0.1, 2.0
SCROLL_LINES = 5
PAUSABLE = ("queued", "probing", "downloading", "verifying", "repairing", "publishing")
RESUMABLE = ("paused", "failed", "cancelled")
CANCELLABLE = (*PAUSABLE, "paused", "failed")

BINDINGS = (
    ("t", "start a talk; the model is fetched and loaded first if need be"),
    ("s", "stop the talk"),
    ("m", "mute the microphone, or open it again"),
    ("space", "push-to-talk: hold it, or tap it on and off"),
    ("o", "open microphone: end push-to-talk and mute"),
    ("p", "pause the talk, or go on"),
    ("+ -", "volume"),
    ("up down", "choose a download (also k and j)"),
    ("d", "pause the download, or let it go on"),
    ("x", "cancel the download; asks first"),
    ("PgUp PgDn", "scroll the transcript"),
    ("Ctrl-L", "draw the screen again, and ask what no event tells"),
    ("?", "this help"),
    ("q", "quit; a talk that was started here ends, so it asks"),
)


def pressed(state: State, key: str, now_s: float) -> Step:
    """A key."""
    state = replace(state, note=None)
    if key == "redraw":
        asked = [Call("daemon.status", "daemon.status")] if state.connected else []
        return state, [Redraw(), *asked]
    if state.question is not None:
        return _answered(state, state.question, key)
    if state.help:
        return replace(state, help=False), []
    match key:
        case "?":
            return replace(state, help=True), []
        case "q":
            return _quit(state, EXIT_OK)
        case "up" | "k":
            return _select(state, -1), []
        case "down" | "j":
            return _select(state, 1), []
        case "page_up":
            return replace(state, scrolled=state.scrolled + SCROLL_LINES), []
        case "page_down":
            return replace(state, scrolled=max(0, state.scrolled - SCROLL_LINES)), []
    if key not in _NEEDS_DAEMON:
        return state, []
    if not state.connected:
        return replace(state, note=Note("the daemon is not there", is_error=True)), []
    return _NEEDS_DAEMON[key](state, key, now_s)


def interrupted(state: State) -> Step:
    """Ctrl-C: quit; while a talk of ours goes on it asks, and a second one does not."""
    if state.question is not None and state.question.is_quit:
        return state, [Quit(EXIT_INTERRUPTED)]
    return _quit(state, EXIT_INTERRUPTED)


def passed(state: State, now_s: float) -> Step:
    """Time has gone by: the push-to-talk key may be released."""
    hold = state.hold.passed(now_s)
    return _held(state, hold) if hold != state.hold else (state, [])


def suspended(state: State) -> Step:
    """Ctrl-Z: nobody will tell when the push-to-talk key is released."""
    return _held(state, Hold()) if state.hold.talking else (state, [])


def _answered(state: State, question: Question, key: str) -> Step:
    if key in ("y", "Y"):
        return replace(state, question=None), list(question.effects)
    if key in ("n", "N", "q", "escape", "enter"):
        return replace(state, question=None), []
    return state, []


def _quit(state: State, code: int) -> Step:
    if not state.owns_talk:
        return state, [Quit(code)]
    question = Question("The talk ends with this screen. Quit?", (Quit(code),), is_quit=True)
    return replace(state, question=question), []


def _select(state: State, by: int) -> State:
    ids = [str(job.get("id")) for job in state.listed_jobs]
    chosen = state.selected_job
    if chosen is None:
        return state
    at = ids.index(str(chosen.get("id"))) + by
    return replace(state, selected=ids[max(0, min(len(ids) - 1, at))])


def _start(state: State, _key: str, _now_s: float) -> Step:
    if state.talks or state.starts:
        return replace(state, note=Note("there is a talk already")), []
    start = Call("talk.start", "talk.start", state.talk_params)
    return replace(state, note=Note("starting a talk; s takes it back")), [start]


def _stop(state: State, _key: str, _now_s: float) -> Step:
    if state.starts and not state.talks:
        return state, [Cancel("talk.start")]
    if not state.talks:
        return replace(state, note=Note("there is no talk")), []
    stop = Call("talk.stop", "talk.stop")
    if state.owns_talk:
        return state, [stop]
    owner = state.talk.get("owner") or "somebody else"
    return replace(state, question=Question(f"{owner} started this talk. Stop it?", (stop,))), []


def _mute(state: State, _key: str, _now_s: float) -> Step:
    return _set(state, {"muted": not state.controls.get("muted")})


def _pause_talk(state: State, _key: str, _now_s: float) -> Step:
    return _set(state, {"paused": not state.controls.get("paused")})


def _volume(state: State, key: str, _now_s: float) -> Step:
    step = -VOLUME_STEP if key == "-" else VOLUME_STEP
    volume = round(float(state.controls.get("volume") or 0.0) + step, 2)
    return _set(state, {"volume": max(0.0, min(VOLUME_MAX, volume))})


def _talk_key(state: State, _key: str, now_s: float) -> Step:
    if not state.talk.get("controls"):
        return _no_controls(state)
    return _held(state, state.hold.press(now_s))


def _held(state: State, hold: Hold) -> Step:
    """Push-to-talk as it is now; told only when it changes."""
    talking, was = hold.talking, state.hold.talking
    state = replace(state, hold=hold)
    if talking == was:
        return state, []
    return _set(state, {"push_to_talk": True, "talking": talking})


def _open_microphone(state: State, _key: str, _now_s: float) -> Step:
    opened = {"push_to_talk": False, "talking": False, "muted": False}
    return _set(replace(state, hold=Hold()), opened)


def _set(state: State, controls: Json) -> Step:
    if not state.talk.get("controls"):
        return _no_controls(state)
    return send_controls(replace(state, wanted={**state.wanted, **controls}))


def _no_controls(state: State) -> Step:
    text = "this talk has no such controls" if state.talks else "there is no talk: t starts one"
    return replace(state, note=Note(text)), []


def _hold_download(state: State, _key: str, _now_s: float) -> Step:
    job = state.selected_job
    if job is None:
        return replace(state, note=Note("there is no download")), []
    call_id = {"id": job.get("id")}
    if job.get("state") in PAUSABLE:
        return state, [Call("download", "download.pause", call_id)]
    if job.get("state") in RESUMABLE:
        return state, [Call("download", "download.resume", call_id)]
    return replace(state, note=Note("this download is done")), []


def _cancel_download(state: State, _key: str, _now_s: float) -> Step:
    job = state.selected_job
    if job is None or job.get("state") not in CANCELLABLE:
        return replace(state, note=Note("there is no download to cancel")), []
    cancel = Call("download", "download.cancel", {"id": job.get("id")})
    name = progress.job_name(job)
    text = f"Cancel the download of {name} and delete what has come?"
    return replace(state, question=Question(text, (cancel,))), []


_NEEDS_DAEMON = {
    "t": _start,
    "s": _stop,
    "m": _mute,
    "p": _pause_talk,
    "+": _volume,
    "=": _volume,
    "-": _volume,
    "space": _talk_key,
    "o": _open_microphone,
    "d": _hold_download,
    "x": _cancel_download,
}
