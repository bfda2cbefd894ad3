"""A stream whose sound server stands still for a moment: ``python -m tests.fakes.xrun_child PID``.

Prints how late, in ms, the timeliest of many looks seemed to come after its callback, before and
after, and how often the server said that sound was lost.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Final

from moshid.audio.device_list import find_device
from moshid.audio.portaudio import PortAudioStream

BLOCKS: Final = 60
STILL_NS: Final = 37_000_000
LOOK_S: Final = 0.0005


def look(stream: PortAudioStream) -> int:
    """Look once; → what has gone by since the last time."""
    time.sleep(LOOK_S)
    before = stream.played
    stream.check(time.monotonic_ns())
    stream.heard.take(len(stream.heard))
    return stream.played - before


def lateness_ms(stream: PortAudioStream) -> float:
    """The least time, over some blocks, from a callback to the look that found it."""
    least_ns, blocks = 10**12, 0
    while blocks < BLOCKS:
        if look(stream):
            blocks += 1
            least_ns = min(least_ns, time.monotonic_ns() - stream.stamp_ns)
    return least_ns / 1e6


def stand_still(stream: PortAudioStream, server: int) -> None:
    """Stop the server until its callback is well overdue; return when it has said so."""
    os.kill(server, signal.SIGSTOP)
    since_ns = time.monotonic_ns()
    while time.monotonic_ns() - since_ns < STILL_NS:
        look(stream)
    os.kill(server, signal.SIGCONT)
    while not stream.xruns:
        look(stream)


def main() -> None:
    """Look, stop the server, look again."""
    microphone, speaker = find_device("system", "input"), find_device("JACK Audio", "output")
    stream = PortAudioStream(microphone, speaker)
    stream.base()
    facts = {"before_ms": lateness_ms(stream)}
    stand_still(stream, int(sys.argv[1]))
    facts |= {"after_ms": lateness_ms(stream), "xruns": stream.xruns}
    sys.stdout.write(json.dumps(facts))
    sys.stdout.flush()
    os._exit(0)  # PortAudio's JACK part may wait for ever for the server


if __name__ == "__main__":
    main()
