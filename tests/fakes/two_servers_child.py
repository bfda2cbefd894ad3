"""A sound check between two sound servers, in a process of its own.

``python -m tests.fakes.two_servers_child SECONDS`` hears on PulseAudio, plays on JACK, and takes
JACK's rate for 24 kHz whatever it is: so JACK is a device whose clock is off by exactly that. It
prints a JSON line.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any

from moshid.audio.clocks import TwoClocks
from moshid.audio.device_list import find_device
from moshid.audio.live import MicrophoneSource, SpeakerSink
from moshid.audio.portaudio import PortAudioStream
from moshid.audio.session import Plan, Session
from moshid.audio.silence import SilenceWatch

SETTLED_S = 5.0


class TakenFor24kHz:
    """A stream, but for its rate."""

    rate = 24_000.0

    def __init__(self, stream: PortAudioStream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def main(seconds: float) -> dict[str, Any]:
    """Runs the echo; how much was queued for the speaker each frame, and the last stats."""
    hearing = PortAudioStream(find_device("pulse", "input"), None)
    playing = TakenFor24kHz(PortAudioStream(None, find_device("JACK Audio", "output")))
    clocks = TwoClocks(hearing, playing)
    source = MicrophoneSource(hearing, SilenceWatch(may_be_stuck=False), clocks=clocks)
    sink = SpeakerSink(playing, clocks=clocks)
    queued: list[float] = []

    def notify(name: str, _data: dict[str, Any]) -> None:
        if name == "level":
            queued.append(sink.pending_s())

    plan = Plan("clocks", 0, 0, seconds)
    session = Session(plan, source, sink, notify, codec=None, link=None)
    begun_s = time.monotonic()
    before: dict[str, Any] = {}
    while session.ended is None:
        select.select([], [], [], session.wait_s())
        session.step()
        if not before and time.monotonic() - begun_s > SETTLED_S:
            before = session.stats()
    return {"before": before, "after": session.finish(), "queued_s": queued}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(float(sys.argv[1]))) + "\n")
    sys.stdout.flush()
    os._exit(0)  # not through PortAudio's end: see docs/decisions.md, 15
