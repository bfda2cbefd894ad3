"""Both sides of a session as a listener has them: controls, levels, who speaks. Owns their order.

``Session`` hands each captured frame through ``to_model``, by halves or whole, ``reaches_model``
and ``hear``, and each answer through ``say`` and ``played``; what is told of it comes out of
``level``, ``stats`` and ``news``.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from moshid.audio.controls import Controls
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_S, SILENCE_DBFS, level_dbfs, samples_ns
from moshid.audio.gain import Gain
from moshid.audio.presence import Presence
from moshid.audio.pump import Answer
from moshid.audio.recorder import Recorder
from moshid.audio.request import ControlChanges
from moshid.audio.ring import Samples
from moshid.audio.speech import SpeechDetector, open_detector
from moshid.audio.verdict import Examiner


class Conversation:
    """From the first frame to the last; one a session."""

    def __init__(
        self,
        *,
        controls: Controls | None = None,
        recorder: Recorder | None = None,
        examiner: Examiner | None = None,
        detector: SpeechDetector | None = None,
        pause_s_max: float = 0.0,
    ) -> None:
        """
        Args:
            controls: as they were, where a session takes over from another process's.
            recorder: None: nothing is recorded.
            examiner: where the session is a sound check.
            detector: None: the best one there is.
            pause_s_max: the longest pause; 0 is without limit.
        """
        self.controls = controls or Controls()
        self._recorder = recorder
        self._examiner = examiner
        self._pause_s_max = pause_s_max
        self._paused_ns: int | None = None
        self._to_model = Gain(self.controls.input_gain)
        self._voice = Gain(float(not self.controls.paused))
        self._volume = Gain(self.controls.volume)
        self._paused_frames = 0
        self._is_fading = False
        self._detector = detector or open_detector()
        self._presence = Presence()
        self._speech = 0.0
        self._input = self._output = (SILENCE_DBFS, SILENCE_DBFS)
        self._coming: deque[tuple[int, float, tuple[float, float]]] = deque(maxlen=64)
        """Answers not heard yet: when, Moshi's own level, level and peak as it is played."""

    def set(self, changes: ControlChanges, now_ns: int) -> bool:
        """Change what the user may set; returns whether that ends a pause."""
        before, self.controls = self.controls, self.controls.changed(changes)
        self._to_model.change(self.controls.input_gain, now_ns)
        self._voice.change(float(not self.controls.paused), now_ns)
        self._volume.change(self.controls.volume, now_ns)
        if not self.controls.paused:
            self._paused_frames, self._paused_ns = 0, None
        return before.paused and not self.controls.paused

    def paused_too_long(self, now_ns: int) -> bool:
        """Whether the talk is to end: nobody comes back."""
        if not self.controls.paused:
            return False
        self._paused_ns = self._paused_ns or now_ns
        return 0 < self._pause_s_max * 1e9 < now_ns - self._paused_ns

    def to_model(self, heard: Heard) -> Samples:
        """Mute and pause on a frame, or on the half of it that is next: float32 [n]."""
        self._is_fading = self._is_fading or not self._to_model.settled
        return self._to_model.apply(heard.pcm, heard.capture_ns)

    def reaches_model(self) -> bool:
        """Whether the model is to hear of the frame that ``to_model`` was asked for, once a frame.

        The first frame of a pause still goes there, faded out: its answer is the one that fades.
        """
        rests = self._paused_frames > 0 and not self._is_fading
        self._paused_frames += self.controls.paused
        self._is_fading = False
        return not rests

    def hear(self, frame: int, raw: Heard, heard: Heard, pcm: Samples) -> None:
        """Take a captured frame for levels, presence, recording and sound check.

        Args:
            frame: its number in the session.
            raw: as the microphone gave it.
            heard: after the echo canceller, with position and time of what is left.
            pcm: the same after ``to_model``, float32 [1920].
        """
        if self._examiner is not None:
            self._examiner.hear(raw)
        self._speech = self._detector.probability(heard.pcm)
        self._input = _loudness(heard.pcm)
        moshi_dbfs = self._heard_until(heard.capture_ns)
        self._presence.update(
            frame, speech=self._speech, hears=self.controls.hears, moshi_dbfs=moshi_dbfs
        )
        if self._recorder is not None:
            origin_ns = raw.capture_ns - samples_ns(raw.position + len(raw.pcm))
            self._recorder.hear(pcm, heard.position, origin_ns)

    def echo(self, frame: int, pcm: Samples) -> Samples:
        """What answers a frame where there is no model: itself, or what a sound check wants."""
        return pcm if self._examiner is None else self._examiner.answer(frame, pcm)

    def say(self, pcm: Samples) -> tuple[Samples, Samples]:
        """What there is to hear of an answer, float32 [1920], and the same at the volume set,
        which is what the speaker is to play."""
        said = self._voice.apply(pcm)
        return said, self._volume.apply(said)

    def played(self, said: Samples, played: Samples, answer: Answer, heard_ns: int) -> None:
        """Both of ``say``'s will be heard from ``heard_ns`` on."""
        self._coming.append((heard_ns, level_dbfs(said), _loudness(played)))
        if self._examiner is not None:
            self._examiner.played(answer.frame, heard_ns)
        if self._recorder is not None:
            self._recorder.say(said, answer.position, heard_ns)

    def level(self, frame: int) -> dict[str, Any]:
        """The part of a ``talk.level`` event that is known here."""
        return {
            "frame": frame,
            "t_s": round((frame + 1) * FRAME_S, 2),
            "input_dbfs": round(self._input[0], 1),
            "input_peak_dbfs": round(self._input[1], 1),
            "output_dbfs": round(self._output[0], 1),
            "output_peak_dbfs": round(self._output[1], 1),
            "speech_probability": round(self._speech, 2),
            "user_speaking": self._presence.user_speaking,
            "moshi_speaking": self._presence.moshi_speaking,
        }

    def stats(self, *, underruns: int) -> dict[str, Any]:
        """The part of ``talk.status`` that is known here."""
        examiner, recorder = self._examiner, self._recorder
        return {
            "input_dbfs": round(self._input[0], 1),
            "output_dbfs": round(self._output[0], 1),
            "controls": self.controls.to_dict(),
            "interrupts": self._presence.interrupts.to_dict(),
            "recording": recorder.status() if recorder else None,
            "verdict": examiner.verdict(underruns=underruns) if examiner else None,
        }

    def news(self) -> dict[str, Any] | None:
        """The data of a ``recording`` event, once, when it has stopped before the end."""
        if self._recorder is None or not self._recorder.news():
            return None
        return {"recording": self._recorder.status()}

    def close(self) -> None:
        """Finish the recording."""
        if self._recorder is not None:
            self._recorder.close()

    def _heard_until(self, now_ns: int) -> float:
        """Moshi's level in the frame that ends at ``now_ns``; sets what is shown of the output."""
        moshi_dbfs, self._output = SILENCE_DBFS, (SILENCE_DBFS, SILENCE_DBFS)
        while self._coming and self._coming[0][0] <= now_ns:
            _, own_dbfs, played = self._coming.popleft()
            moshi_dbfs = max(moshi_dbfs, own_dbfs)
            self._output = max(self._output, played)
        return moshi_dbfs


def _loudness(pcm: Samples) -> tuple[float, float]:
    """Level and peak of float32 [n], both in dBFS."""
    peak = float(np.max(np.abs(pcm), initial=0.0))
    peak_dbfs = SILENCE_DBFS if peak <= 0.0 else max(SILENCE_DBFS, 20 * float(np.log10(peak)))
    return level_dbfs(pcm), peak_dbfs
