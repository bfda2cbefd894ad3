"""The least that a program can do with sound: what the microphone gives goes to the speaker.

``python -m tests.fakes.pass_through SECONDS``. PortAudio's duplex callback, nothing else.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import sounddevice as sd

from moshid.audio.device_list import find_device
from moshid.audio.frames import SAMPLE_RATE


def copy(indata: Any, outdata: Any, _frames: int, _time: Any, _status: Any) -> None:
    """The callback."""
    outdata[:] = indata


def main() -> None:
    """Pass sound through for some seconds."""
    device = find_device("system", "input").index, find_device("JACK Audio", "output").index
    with sd.Stream(samplerate=SAMPLE_RATE, device=device, channels=1, latency="low", callback=copy):
        time.sleep(float(sys.argv[1]))


if __name__ == "__main__":
    main()
