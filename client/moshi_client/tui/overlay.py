"""What lies over the picture: the help, a question. Pure: lines in, lines out."""

from __future__ import annotations

from moshi_client.tui import lines, text
from moshi_client.tui.act import BINDINGS
from moshi_client.tui.lines import Line, line
from moshi_client.tui.state import Question


def help_box(frame: list[Line], width: int) -> list[Line]:
    """The frame with the keys over it, two columns where the lines are too few for one."""
    rows = [line((f" {keys:<10}", "bold"), f" {what}") for keys, what in BINDINGS]
    room = len(frame) - 2
    if len(rows) > room:
        rows = _in_columns(rows, width - 2) if width >= 100 else rows
    if len(rows) > room:
        rows = [*rows[: max(0, room - 1)], line((" more: moshi-client help tui", "dim"))]
    return _over(frame, [line((" Keys", "bold")), *rows], width)


def question_box(frame: list[Line], question: Question, width: int) -> list[Line]:
    """The frame with a question over it; the answer's line is never cut off."""
    room = max(1, len(frame) - 2)
    asked = text.wrap(text.clean(question.text), width - 4)[: room - 1]
    rows = [line((f" {row}", "bold")) for row in asked]
    rows.append(line(" ", ("y", "bold green"), " yes   ", ("n", "bold red"), " no"))
    return _over(frame, rows, width)


def _in_columns(rows: list[Line], width: int) -> list[Line]:
    half = (len(rows) + 1) // 2
    cells = width // 2
    left = [lines.fill(row, cells, "") for row in rows[:half]]
    right = [*rows[half:], ()]
    return [(*a, *b) for a, b in zip(left, right, strict=False)]


def _over(frame: list[Line], rows: list[Line], width: int) -> list[Line]:
    """The rows in the middle of the frame, in reverse, with an empty line above and below."""
    box = [(), *rows, ()] if len(rows) + 2 <= len(frame) else rows[: len(frame)]
    top = max(0, (len(frame) - len(box)) // 2)
    shown = list(frame)
    for at, row in enumerate(box):
        spans = tuple(lines.Span(s.text, f"{s.style} reverse".strip()) for s in row)
        shown[top + at] = lines.fill(spans, width, "reverse")
    return shown
