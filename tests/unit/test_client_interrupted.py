"""What a Ctrl-C, or a rotation at the wrong moment, must not lose."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest

from moshi_client.commands import logs
from moshi_client.context import Context
from moshi_client.talk_view import TalkView


class InterruptingStream(io.StringIO):
    """Ctrl-C arrives as soon as ``word`` has been written."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._word in text:
            raise KeyboardInterrupt
        return written


class LateFile:
    """A log that grows right after its end was seen, while it is rotated."""

    def __init__(self, path: Path, late: str) -> None:
        self._path = path
        self._late = late
        self._file = path.open("rb")

    def readline(self) -> bytes:
        line: bytes = self._file.readline()
        if not line and self._late:
            with self._path.open("a") as file:
                file.write(self._late)
            self._late = ""
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def text(piece: str) -> dict[str, Any]:
    data = {"session": "t-1", "frame": 1, "t_s": 0.1, "text": piece}
    return {"topic": "talk.text", "data": data}


def test_words_stay_in_order_when_the_beginning_is_interrupted() -> None:
    out, err = io.StringIO(), InterruptingStream("talking")
    ctx = Context(argparse.Namespace(), {}, out, err)
    view = TalkView(ctx, one_a_line=False)
    view.on_notification("event", text(" one"))
    with pytest.raises(KeyboardInterrupt):
        view.begin({"session": {"session": "t-1", "state": "listening"}, "seed": 1})
    view.on_notification("event", text(" two"))
    view.end()
    assert out.getvalue() == " one two\n"


def test_the_last_lines_of_a_rotated_log_are_not_lost(tmp_path: Path) -> None:
    old, new = tmp_path / "log.1", tmp_path / "log"
    old.write_text(json.dumps({"msg": "first"}) + "\n")
    new.write_text(json.dumps({"msg": "last"}) + "\n")
    out = InterruptingStream("last")
    ctx = Context(argparse.Namespace(), {}, out, io.StringIO())
    file: Any = LateFile(old, json.dumps({"msg": "late"}) + "\n")
    with pytest.raises(KeyboardInterrupt):
        logs.follow(ctx, str(new), file)
    assert out.getvalue() == "first\nlate\nlast\n"
