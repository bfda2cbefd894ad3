"""When the terminal UI paints, and what it waits for: by a clock of the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moshi_client.tui import paint
from moshi_client.tui.app import ANSWER_WITHIN_S, FRAMES_PER_S, RETRY_FIRST_S, RETRY_MAX_S, App
from moshi_client.tui.link import Link
from moshi_client.tui.state import Json, Note, State
from moshi_client.tui.terminal import Terminal
from tests.fakes.tui_states import listening


class FakeTerminal:
    """Takes what is written, or keeps it pending."""

    def __init__(self) -> None:
        self.fd_in = self.fd_out = self.wake_fd = -1
        self.has_pending = False
        self.window = (80, 24)
        self.written: list[bytes] = []

    def size(self) -> tuple[int, int]:
        return self.window

    def write(self, data: bytes) -> None:
        self.written.append(data)


class Rig:
    """An app on a fake terminal, with a clock that is moved by hand."""

    def __init__(self, socket: Path) -> None:
        self.now_s = 100.0
        self.terminal = FakeTerminal()
        painter = paint.Painter(colours=True, ascii_only=False)
        terminal = cast(Terminal, self.terminal)
        self.app = App(terminal, painter, str(socket), listening(), clock=lambda: self.now_s)
        self.app._painted_at_s = 0.0
        self.app._try_at_s = 1e9

    def change(self, number: int) -> None:
        levels: Json = {**self.app._state.levels, "input_dbfs": -float(number % 60)}
        self.app._state = replace(self.app._state, levels=levels)

    def paint(self) -> int:
        """Have it paint, if it will; how often it has so far."""
        self.app._paint()
        return len(self.terminal.written)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "none.sock")


def test_it_paints_on_a_change_and_not_more_often_than_eyes_can_follow(rig: Rig) -> None:
    assert [rig.paint(), rig.paint()] == [1, 1], "nothing has changed"
    for number in range(1000):
        rig.now_s += 0.001
        rig.change(number)
        rig.paint()
    assert FRAMES_PER_S - 2 <= len(rig.terminal.written) <= FRAMES_PER_S + 2


def test_a_change_that_came_too_soon_is_painted_when_it_is_time(rig: Rig) -> None:
    rig.paint()
    rig.change(7)
    assert rig.paint() == 1
    timeout_s = rig.app._timeout_s()
    assert timeout_s == pytest.approx(1.0 / FRAMES_PER_S)
    rig.now_s += 1.001 / FRAMES_PER_S
    assert rig.paint() == 2


def test_an_idle_screen_waits_without_a_time(rig: Rig) -> None:
    rig.app._link, rig.app._greeted = cast(Link, object()), True
    rig.paint()
    assert rig.app._timeout_s() is None


def test_nothing_is_painted_while_the_terminal_takes_the_last_picture(rig: Rig) -> None:
    rig.terminal.has_pending = True
    rig.change(7)
    assert rig.paint() == 0
    rig.change(8)
    rig.terminal.has_pending = False
    assert rig.paint() == 1
    assert b"-8 dB" in rig.terminal.written[0], "the newest, the one between is left out"


def test_another_size_is_painted_whole(rig: Rig) -> None:
    rig.paint()
    rig.now_s += 1.0
    rig.terminal.window = (60, 20)
    assert rig.paint() == 2
    assert rig.terminal.written[1].startswith(paint.CLEAR.encode())


def test_a_lost_daemon_is_tried_again_with_growing_waits(rig: Rig) -> None:
    rig.app._try_at_s = rig.now_s
    waits = []
    for _ in range(6):
        rig.app._keep_time()
        assert not rig.app._state.connected
        waits.append(rig.app._try_at_s - rig.now_s)
        rig.now_s = rig.app._try_at_s
    assert waits == pytest.approx([RETRY_FIRST_S, 0.5, 1.0, RETRY_MAX_S, RETRY_MAX_S, RETRY_MAX_S])


def test_a_daemon_that_does_not_answer_is_told(rig: Rig) -> None:
    asked: list[str] = []
    link = SimpleNamespace(call=lambda tag, *_: asked.append(tag))
    rig.app._link, rig.app._greeted = cast(Link, link), True
    rig.app._state = replace(rig.app._state, talk={})
    rig.app._press(["t"])
    rig.now_s += 1000.0
    rig.app._keep_time()
    assert not rig.app._state.hangs, "a start may take as long as a download"
    rig.app._press(["d"])
    assert asked == ["talk.start", "download"]
    rig.paint()
    assert rig.app._timeout_s() == pytest.approx(ANSWER_WITHIN_S)
    rig.now_s += ANSWER_WITHIN_S + 1e-6
    rig.app._keep_time()
    rig.paint()
    assert b"the daemon does not answer" in rig.terminal.written[-1]
    assert rig.app._timeout_s() is None
    rig.now_s += 1.0
    rig.app._on_message("answer", "download", {})
    rig.app._keep_time()
    rig.paint()
    assert b"connected" in rig.terminal.written[-1]


def test_a_held_key_is_waited_for(rig: Rig) -> None:
    rig.app._state = replace(rig.app._state, note=Note("x"), hold=State().hold.press(rig.now_s))
    rig.now_s += 0.5
    rig.paint()
    assert rig.app._timeout_s() == pytest.approx(0.4)
