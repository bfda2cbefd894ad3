"""What a sound check says in the end: microphone, speaker, latency, echo, and what to do. Pure."""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any, Final

import numpy as np

from moshid.audio.devices import Heard
from moshid.audio.frames import level_dbfs
from moshid.audio.ring import Samples
from moshid.audio.sound_check import SoundCheck
from moshid.errors import AudioPermission

QUIET_DBFS: Final = -70.0
CLIPS_AT: Final = 0.999
CLIPPED_SHARE_MAX: Final = 0.001
DROPOUT_SHARE_MAX: Final = 0.05
UNDERRUNS_MAX: Final = 2
KEPT_FRAMES: Final = 750
DEAF: Final = ("silent", "nothing_heard")

SILENT_HINT: Final = (
    f"It gives zeros to the bit. {AudioPermission.default_hint}"
    if sys.platform == "darwin"
    else "It gives zeros to the bit: see whether it is muted, or not connected."
)
ECHO_HINT: Final = "Use headphones, or keep echo cancelling on."
HOWL_HINT: Final = "Turn the speaker down, or use headphones: the loop would howl."


class Microphone:
    """Watches what a microphone gives."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=KEPT_FRAMES)
        self._frames = self._zero_frames = self._clipped = self._samples = 0

    def hear(self, pcm: Samples) -> None:
        """One frame, float32 [1920]."""
        self._frames += 1
        self._samples += len(pcm)
        self._zero_frames += not pcm.any()
        self._clipped += int(np.count_nonzero(np.abs(pcm) >= CLIPS_AT))
        self._levels.append(level_dbfs(pcm))

    def verdict(self) -> dict[str, Any]:
        """``{ok, reason, hint, level_dbfs}``: the level is that of its louder frames."""
        level = round(float(np.percentile(self._levels, 95)), 1) if self._levels else None
        reason, hint = self._reason(level)
        return {
            "ok": reason in ("ok", "quiet", "drops_out"),
            "reason": reason,
            "hint": hint,
            "level_dbfs": level,
        }

    def _reason(self, level_dbfs: float | None) -> tuple[str, str | None]:
        if level_dbfs is None:
            return "nothing_heard", "No frame came: let it run for a second at least."
        if self._zero_frames == self._frames:
            return "silent", SILENT_HINT
        if self._zero_frames > DROPOUT_SHARE_MAX * self._frames:
            return (
                "drops_out",
                "Now and then it gives zeros only: a noise gate, or a bad connection.",
            )
        if self._clipped > CLIPPED_SHARE_MAX * self._samples:
            return "clips", "It is too loud: turn its level down in the sound settings."
        if level_dbfs < QUIET_DBFS:
            return "quiet", "Speak, or turn its level up in the sound settings."
        return "ok", None


def speaker(*, underruns: int) -> dict[str, Any]:
    """``{ok, reason, hint}`` of a speaker that was fed in time, but for so many gaps."""
    if underruns > UNDERRUNS_MAX:
        hint = "Sound was late: close what keeps the machine busy, or choose another device."
        return {"ok": False, "reason": "stutters", "hint": hint}
    return {"ok": True, "reason": "ok", "hint": None}


def echo(check: SoundCheck, *, told_ms: float) -> tuple[dict[str, Any], float]:
    """``{heard, below_db, delay_ms, hint}``, and the devices' latency there and back as measured
    by the sound, else ``told_ms``, what they say of themselves."""
    found = check.echo
    if found is None:
        nothing = {"heard": check.heard, "below_db": None, "delay_ms": None, "hint": None}
        return nothing, round(told_ms, 1)
    below_db = -20 * math.log10(found.gain)
    # Capture times do not hold the devices' own latency, the times of playing do.
    latency_ms = max(0.0, found.delay_ms + told_ms)
    return {
        "heard": True,
        "below_db": round(below_db, 1),
        "delay_ms": round(latency_ms, 1),
        "hint": ECHO_HINT if check.repeats(sys.maxsize) else HOWL_HINT,
    }, round(latency_ms, 1)


class Examiner:
    """Watches an echo session, and makes it a sound check where both ends are devices."""

    def __init__(self, *, hears: bool, speaks: bool, told_ms: float) -> None:
        """
        Args:
            hears: whether the source is a microphone, not a file.
            speaks: whether the sink is a speaker.
            told_ms: the devices' latency, there and back, by their own word.
        """
        self._microphone = Microphone() if hears else None
        self._check = SoundCheck() if hears and speaks else None
        self._speaks = speaks
        self._told_ms = told_ms

    def hear(self, heard: Heard) -> None:
        """A frame as the microphone gives it, before anything is done to it."""
        if self._microphone is not None:
            self._microphone.hear(heard.pcm)
        if self._check is not None:
            self._check.hear(heard.pcm, heard.position, heard.capture_ns)

    def answer(self, frame: int, pcm: Samples) -> Samples:
        """What is played in answer to a frame; between files it is the frame itself."""
        return pcm if self._check is None else self._check.answer(frame, pcm)

    def played(self, frame: int, heard_ns: int) -> None:
        """The answer to ``frame`` will be heard from ``heard_ns`` on."""
        if self._check is not None:
            self._check.played(frame, heard_ns)

    def verdict(self, *, underruns: int) -> dict[str, Any]:
        """``{ok, microphone, speaker, delay_ms, latency_ms, latency_measured, echo}``; null where
        a file takes a device's place. ``delay_ms`` is how much later the microphone is repeated,
        over the devices' latency and the frame."""
        microphone = self._microphone.verdict() if self._microphone else None
        loud = speaker(underruns=underruns) if self._speaks else None
        told: dict[str, Any] = {
            "ok": all(part is None or part["ok"] for part in (microphone, loud)),
            "microphone": microphone,
            "speaker": loud,
            "delay_ms": 0,
            "latency_ms": None,
            "latency_measured": False,
            "echo": None,
        }
        if self._check is not None:
            found, latency_ms = echo(self._check, told_ms=self._told_ms)
            measured = {"latency_ms": latency_ms, "latency_measured": bool(found["heard"])}
            if microphone is not None and microphone["reason"] in DEAF:
                found["heard"] = None  # who hears nothing cannot tell
            told |= {"delay_ms": self._check.delay_ms, "echo": found} | measured
        return told
