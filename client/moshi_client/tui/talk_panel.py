"""The panel of the talk: facts, levels of both sides, the transcript. Pure."""

from __future__ import annotations

from moshi_client import render
from moshi_client.tui import lines, text, widgets
from moshi_client.tui.lines import Line, line
from moshi_client.tui.state import Json, Paragraph, State

METER_CELLS_MAX = 40
SPEECH_LIKELY = 0.5
"""From this probability on, somebody speaks into a microphone that does not hear."""


def title_right(state: State) -> Line:
    """What stands at the right of the panel's heading: the talk's state and time."""
    status = state.talk_state
    if status == "idle" and state.starts:
        status = "starting"
    shown = line((status, widgets.state_style(status) if status != "idle" else "dim"))
    if state.talk.get("seconds"):
        shown = (*shown, *line(f" {render.duration(state.talk['seconds'])}"))
    if state.talks and (state.talk.get("recording") or {}).get("state") == "on":
        shown = (*line(("● REC ", "bold red")), *shown)
    return shown


def rows(state: State, width: int, count: int) -> list[Line]:
    """At most ``count`` lines: facts, then both meters, the rest is the transcript."""
    if not state.talks:
        return _idle_rows(state, width, count)
    told = [_facts(state, width)]
    controls = _controls_line(state, width)
    if controls and count >= 5:
        told.append(controls)
    elif controls:
        told = [controls]
    told += _meters(state, width) if count >= 4 else [_both_meters(state, width)]
    room = count - len(told)
    return [*told[:count], *(transcript(state, width, room) if room > 0 else [])]


def _idle_rows(state: State, width: int, count: int) -> list[Line]:
    talk = state.talk
    told = [line((" no talk: ", "dim"), ("t", "bold"), (" starts one", "dim"))]
    if talk.get("session"):
        reason = str(talk.get("reason") or state.talk_state).replace("_", " ")
        parts = [line(f" the last talk: {reason}"), line(_counts(talk)), _latency(talk)]
        told = [lines.joined(parts), *_verdict(talk.get("verdict"))]
    told = [lines.fit(row, width) for row in told]
    return [*told, *transcript(state, width, count - 1)][:count]


def _verdict(verdict: Json | None) -> list[Line]:
    """What a sound check found, each part in a word or two."""
    if not verdict:
        return []
    parts = []
    for name in ("microphone", "speaker"):
        if part := verdict.get(name):
            said = str(part.get("reason")).replace("_", " ")
            parts.append(line(f"{name} ", (said, "green" if part.get("ok") else "bold red")))
    if isinstance(ms := verdict.get("latency_ms"), int | float):
        parts.append(line(f"{ms:.0f} ms there and back"))
    if (heard := (verdict.get("echo") or {}).get("heard")) is not None:
        parts.append(line(("an echo", "yellow") if heard else ("no echo", "green")))
    return [(*line(" "), *lines.joined(parts))]


def _counts(talk: Json) -> str:
    lagged, underruns = talk.get("lagged_frames") or 0, talk.get("underruns") or 0
    return f"{lagged} lagged, {render.count(underruns, 'underrun')}"


def _latency(talk: Json) -> Line:
    told = talk.get("latency_ms") or {}
    if told.get("p50") is None:
        return ()
    return line(f"latency p50 {told['p50']:.0f}, p95 {told.get('p95') or 0:.0f} ms")


def _facts(state: State, width: int) -> Line:
    talk = state.talk
    trouble = bool(talk.get("lagged_frames") or talk.get("underruns"))
    engine = "sound check" if talk.get("engine") == "echo" else str(talk.get("model") or "")
    echo = "on" if talk.get("echo_cancel") else "off"
    interrupts = talk.get("interrupts") or {}
    last_ms = interrupts.get("last_ms")
    parts: list[tuple[int, Line]] = [
        (0, (*line(" "), *_latency(talk)) if _latency(talk) else line(" latency -")),
        (1, line((_counts(talk), "yellow" if trouble else ""))),
        (3, line(f"echo cancel {echo}")),
        (4, line(engine)),
    ]
    if isinstance(last_ms, int | float):
        parts.append((5, line(f"fell silent in {last_ms:.0f} ms")))
    if state.talk_state != "listening":
        parts.insert(0, (0, line(" ", (state.talk_state, "bold yellow"))))
    return lines.fitting(parts, width)


def _controls_line(state: State, width: int) -> Line:
    """What differs from an open microphone and a speaker as it comes; and what is recorded."""
    controls, parts = state.controls, []
    if controls.get("paused"):
        parts.append(line(("PAUSED: p goes on", "bold yellow")))
    if controls.get("muted"):
        parts.append(line(("MUTED: m opens", "bold yellow")))
        if _speaks_unheard(state):
            parts.append(line(("you speak, and are not heard", "bold red")))
    if controls.get("push_to_talk"):
        talking = controls.get("talking")
        parts.append(
            line(("ON AIR", "bold green"))
            if talking
            else line(("push-to-talk: hold space", "yellow"))
        )
    volume = controls.get("volume")
    if isinstance(volume, int | float) and volume != 1.0:
        parts.append(line(f"volume {volume * 100:.0f} %"))
    if recording := state.talk.get("recording"):
        parts.append(_recording(recording))
    if not parts:
        return ()
    return lines.fit((*line(" "), *lines.joined(parts)), width)


def _recording(recording: Json) -> Line:
    if recording.get("state") == "on":
        size = render.size(recording.get("bytes") or 0)
        return line(("recording ", "red"), f"to {recording.get('folder')}, {size}")
    return line((f"recording stopped: {recording.get('reason')}", "yellow"))


def _speaks_unheard(state: State) -> bool:
    probability = state.levels.get("speech_probability")
    return isinstance(probability, int | float) and probability > SPEECH_LIKELY


def _meters(state: State, width: int) -> list[Line]:
    cells = max(4, min(METER_CELLS_MAX, width - 32))
    return [
        lines.fit(_meter(state, "you", cells), width),
        lines.fit(_meter(state, "moshi", cells), width),
    ]


def _both_meters(state: State, width: int) -> Line:
    cells = max(3, min(METER_CELLS_MAX // 2, (width - 16) // 2))
    levels = state.levels
    you = (*line(" you "), *widgets.meter(levels.get("input_dbfs"), cells))
    moshi = (*line(" moshi "), *widgets.meter(levels.get("output_dbfs"), cells))
    return lines.fit((*you, *moshi), width)


def _meter(state: State, who: str, cells: int) -> Line:
    levels = state.levels
    name, speaks = ("input", "user_speaking") if who == "you" else ("output", "moshi_speaking")
    dbfs = levels.get(f"{name}_dbfs")
    number = f"{dbfs:4.0f} dB" if isinstance(dbfs, int | float) and dbfs > -100 else "      -"
    notes: list[Line] = []
    if levels.get(speaks):
        notes.append(line(("speaking", "bold green")))
    elif who == "you" and levels.get("silent_input"):
        notes.append(line(("silence", "yellow")))
    probability = levels.get("speech_probability")
    if who == "you" and isinstance(probability, int | float):
        notes.append(line((f"speech {probability * 100:.0f} %", "dim")))
    head = (*line((f" {who:<6}", "bold")), *widgets.meter(dbfs, cells), *line(f" {number}"))
    return lines.joined([head, *notes])


def transcript(state: State, width: int, count: int) -> list[Line]:
    """The newest ``count`` lines of what Moshi said, each paragraph with its time; or older ones,
    as far as it is scrolled back."""
    wanted = max(0, count) + state.scrolled
    shown: list[Line] = []
    for paragraph in reversed(state.transcript):
        if len(shown) >= wanted:
            break
        shown = _paragraph(paragraph, width) + shown
    back = min(state.scrolled, max(0, len(shown) - count))
    end = len(shown) - back
    return shown[max(0, end - count) : end] if count > 0 else []


def _paragraph(paragraph: Paragraph, width: int) -> list[Line]:
    clock = f"{render.duration(paragraph.begins_s):>6} "
    room = max(4, width - len(clock) - 1)
    wrapped = text.wrap(text.clean(paragraph.text), room)
    heads = [clock] + [" " * len(clock)] * (len(wrapped) - 1)
    return [line((h, "dim"), w) for h, w in zip(heads, wrapped, strict=False)]
