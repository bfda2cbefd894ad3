"""The whole picture: a state, a width and a height → exactly ``height`` styled lines. Pure.

Owns who gets how many lines. Below ``ROOMY_ROWS`` the headings are left out.
"""

from __future__ import annotations

from typing import NamedTuple

from moshi_client.tui import lines, overlay, panels, talk_panel, widgets
from moshi_client.tui.lines import Line, line
from moshi_client.tui.state import State

ROOMY_ROWS = 18
WIDTH_MIN, HEIGHT_MIN = 20, 6


class Rows(NamedTuple):
    """How many lines each panel gets, its heading not counted."""

    model: int
    downloads: int
    talk: int
    log: int


def view(state: State, width: int, height: int) -> list[Line]:
    """The picture."""
    if width < WIDTH_MIN or height < HEIGHT_MIN:
        small = [lines.fit(line("this window is too small"), width)]
        return [*small, *[()] * height][:height]
    roomy = height >= ROOMY_ROWS
    rows = allot(state, height - 2 - (4 if roomy else 0))
    frame = [panels.header(state, width)]
    bodies = (
        ("Model", (), panels.model_rows(state, width, rows.model), rows.model),
        (
            "Downloads",
            panels.downloads_right(state),
            panels.download_rows(state, width, rows.downloads),
            rows.downloads,
        ),
        (
            "Talk",
            talk_panel.title_right(state),
            talk_panel.rows(state, width, rows.talk),
            rows.talk,
        ),
        ("Log", (), panels.log_rows(state, width, rows.log), rows.log),
    )
    for title, right, body, count in bodies:
        if roomy:
            frame.append(widgets.heading(title, right, width))
        frame += [*body, *[()] * (count - len(body))]
    frame.append(footer(state, width))
    if state.question is not None:
        return overlay.question_box(frame, state.question, width)
    return overlay.help_box(frame, width) if state.help else frame


def allot(state: State, room: int) -> Rows:
    """Lines for each panel, ``room`` in all: the least first, then what each has something for."""
    wants = {"model": panels.model_wants(state), "downloads": panels.download_wants(state)}
    rows = {"model": 1, "downloads": 1, "talk": 2, "log": 0}
    left = max(0, room - sum(rows.values()))

    def give(name: str, up_to: int) -> None:
        nonlocal left
        more = min(left, max(0, up_to - rows[name]))
        rows[name] += more
        left -= more

    give("talk", 3 if state.talks else 2)
    give("model", wants["model"])
    give("downloads", min(wants["downloads"], 2))
    give("talk", 7 if state.talks else 4)
    give("log", min(3, len(state.log)))
    give("downloads", min(wants["downloads"], max(4, room // 3)))
    if state.talks or state.transcript:
        give("talk", room)
    give("downloads", wants["downloads"])
    give("log", max(3, len(state.log)))
    give("talk", room)
    return Rows(**rows)


def footer(state: State, width: int) -> Line:
    """The last line: what the user should know, else the keys that do something now."""
    if state.note is not None:
        style = "bold red" if state.note.is_error else "bold"
        return lines.fit(line(" ", (state.note.text, style)), width)
    hints = [(0, _hint("q", "quit")), (0, _hint("?", "keys"))]
    if state.talks:
        hints += [
            (1, _hint("s", "stop")),
            (2, _hint("m", "mute")),
            (3, _hint("space", "push-to-talk")),
            (4, _hint("p", "pause")),
            (5, _hint("+-", "volume")),
        ]
    else:
        hints.append((1, _hint("t", "talk")))
    if state.jobs:
        hints += [
            (6, _hint("d", "pause or resume download")),
            (7, _hint("x", "cancel it")),
        ]
    return lines.fitting(hints, width)


def _hint(key: str, what: str) -> Line:
    return line(" ", (key, "bold"), (f" {what}", "dim"))
