"""What the person at the terminal is told when a device goes, comes or says nothing."""

from __future__ import annotations

import argparse
import io
from typing import Any

import pytest

from moshi_client.context import Context
from moshi_client.talk_view import TalkView


@pytest.mark.parametrize("follow", [False, True])
def test_a_warning_is_shown_while_the_talk_still_starts(follow: bool) -> None:
    """It may say what the start waits for."""
    out, err = io.StringIO(), io.StringIO()
    view = TalkView(Context(argparse.Namespace(json=follow), {}, out, err), one_a_line=follow)
    data = {"session": "t", "event": "warning", "message": "not opened", "hint": "Hangs."}
    view.on_notification("event", {"topic": "talk", "data": data})
    shown = (out if follow else err).getvalue()
    assert "not opened" in shown
    view.begin({"session": {"session": "t", "state": "listening"}, "seed": 1})
    assert (out if follow else err).getvalue().count("not opened") == 1


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"event": "device", "direction": "input", "change": "lost", "device": "USB"},
            "microphone lost, waiting for USB",
        ),
        (
            {"event": "device", "direction": "input", "change": "back", "device": "USB"},
            "microphone is back: USB",
        ),
        (
            {"event": "device", "direction": "output", "change": "changed", "device": "Head"},
            "speaker is now Head",
        ),
        ({"event": "warning", "message": "only zeros", "hint": "Muted?"}, "only zeros: Muted?"),
    ],
)
def test_news_of_the_devices_are_a_line(data: dict[str, Any], line: str) -> None:
    err = io.StringIO()
    view = TalkView(Context(argparse.Namespace(), {}, io.StringIO(), err), one_a_line=False)
    view.begin({"session": {"session": "t", "state": "listening"}, "seed": 1})
    view.on_notification("event", {"topic": "talk", "data": {"session": "t", **data}})
    assert err.getvalue().splitlines()[-1] == line
    assert view.status["state"] == "listening", "it is no state"
