"""When an answer is played. Owns the delay between a frame's capture and its answer's sound.

Pure: positions in samples at 24 kHz go in, samples to write come out. The answer to a frame that
was captured at position ``p`` is played at ``p + offset``. The offset is set by the first answer
(its arrival plus a margin for jitter; less of one where the speaker's beat is known) and then

- an answer late by up to a frame moves the offset: a short gap, nothing is lost. If it is a matter
  of some milliseconds, and none was late in the last seconds, the offset stays, and what the gap
  took is cut out of the answer at its quietest place: coming back later would cost that cut, too;
- an answer later than that is dropped, and so is every late one after it until one is in time: a
  stall leaves no lag behind. If a second goes by with nothing but such answers, the loop has become
  slower for good: the offset starts afresh;
- when for some frames every answer was early by more than the margin, the excess is cut out at the
  quietest place of each frame, or by whole frames where it is more than two. Eight frames of calm
  are enough after a stall; each time that it was too few, twice as many are asked for: up to four
  seconds, or 16 where less than 30 ms are to be had, since a gap is heard and those are not.

No joint is a click: sound is faded in after silence and fades out before it, and is cross-faded
where it follows other sound than its own past. What that would have become is its mirror image.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples

MARGIN_SAMPLES: Final = SAMPLE_RATE // 100
"""10 ms of room for jitter between an answer's arrival and its turn."""

STEADY_MARGIN_SAMPLES: Final = SAMPLE_RATE // 200
"""5 ms, to the moment at which the speaker takes it, where that is known."""

TOLERANCE_SAMPLES: Final = 60
"""2.5 ms: resamplers and callback phases move positions by about this much."""

CROSS_FADE_SAMPLES: Final = 120
CUT_SAMPLES_MAX: Final = FRAME_SAMPLES - 2 * CROSS_FADE_SAMPLES
CALM_FRAMES_MIN: Final = 8
CALM_FRAMES_MAX: Final = 200
LAG_CALM_FRAMES_MAX: Final = 50
LAG_SAMPLES: Final = 3 * SAMPLE_RATE // 100
"""30 ms: more than that is no room for jitter, but what a stall has left."""

HELD_SAMPLES_MAX: Final = SAMPLE_RATE // 50
HELD_FRAMES_MIN: Final = 100
"""The offset does not move for 20 ms if no answer was late for 8 s."""

LATE_SAMPLES_MAX: Final = SAMPLE_RATE
_EMPTY: Final[Samples] = np.zeros(0, dtype=np.float32)
_RISE: Final[Samples] = np.linspace(0.0, 1.0, CROSS_FADE_SAMPLES, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Beat:
    """The speaker takes ``block`` samples at a time, last ``since`` samples' time ago. Without a
    block: it may take what is next at any moment."""

    block: int = 0
    since: int = 0

    def slack(self, ahead: int) -> int:
        """Samples' time until what is ``ahead`` of the speaker has to be there."""
        if not self.block:
            return ahead
        return (ahead // self.block + 1) * self.block - self.since

    def ahead(self, slack: int) -> int:
        """The least distance that leaves so much time, in whole blocks."""
        if not self.block:
            return slack
        return max(0, -(-(slack + self.since) // self.block) - 1) * self.block

    def whole(self, samples: int) -> int:
        """What may be taken from a distance without changing its place in a block."""
        return samples // self.block * self.block if self.block else samples


ANY_TIME: Final = Beat()


class Playout:
    """Places answers on the speaker's time line."""

    def __init__(
        self,
        *,
        offset: int | None = None,
        margin: int = MARGIN_SAMPLES,
        surplus: int = TOLERANCE_SAMPLES,
    ) -> None:
        """``surplus``: samples too many that are not cut out; more where resampling takes them
        away."""
        self.offset = offset
        """Samples from a frame's capture (its first sample) to its answer's sound; None: unset."""
        self.gaps = 0
        """Times that there was silence between two answers: put there, or for want of the next."""
        self.late_frames = 0
        """Answers that came too late to be played."""
        self.cuts = 0
        """Times that sound was cut out to come back to the normal delay."""
        self._margin = margin
        self._surplus = surplus
        self._late_since: int | None = None
        self._headroom: deque[int] = deque(maxlen=CALM_FRAMES_MAX)
        self._calm_frames = CALM_FRAMES_MIN
        self._since_closer = 2 * CALM_FRAMES_MAX
        self._since_late = HELD_FRAMES_MIN
        self._started = False
        self._next: int | None = None
        self._end: Samples = _EMPTY
        self._heard_until = 0

    def too_late(self, position: int, played: int) -> bool:
        """Whether the answer to ``position`` should not even be decoded; counts it if so."""
        patience = FRAME_SAMPLES if self._late_since is None else 0
        if self.offset is None or position + self.offset + patience > played:
            self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = played
        if played - self._late_since > LATE_SAMPLES_MAX:
            self.offset = self._late_since = None
            return False
        self.late_frames += 1
        return True

    def place(
        self, pcm: Samples, position: int, *, head: int, played: int, beat: Beat = ANY_TIME
    ) -> Samples:
        """What to write for the answer float32 [n] to the frame captured at ``position``.

        Args:
            head: where the next sample written will be played; never before ``played``.
            played: where the speaker is.
            beat: when it goes on from there.
        """
        ran_dry = self._started and head - self._heard_until > TOLERANCE_SAMPLES
        gap = self._due(position, played, beat) - head
        if self._started and -self._surplus <= gap <= TOLERANCE_SAMPLES:
            gap = 0
        follows = position == self._next or not self._started
        self._next = position + len(pcm)
        self.cuts += gap < 0
        if -gap > 2 * FRAME_SAMPLES:
            self._next = None
            return _EMPTY
        pcm = cut_quietly(pcm, min(-gap, CUT_SAMPLES_MAX))
        if ran_dry or (gap > 0 and self._started):
            self.gaps += 1
            pcm = _faded_in(pcm)
        elif not follows:
            pcm = _faded_in(pcm, self._end)
        self._started = True
        if gap > 0:
            pcm = np.concatenate((self._silence(gap, head), pcm))
        self._end = pcm[: -CROSS_FADE_SAMPLES - 1 : -1]
        self._heard_until = head + len(pcm)
        return pcm

    def _silence(self, gap: int, head: int) -> Samples:
        """``gap`` samples that begin with what is left of the fade after the sound before."""
        silence = np.zeros(gap, dtype=np.float32)
        fade = faded_out(self._end)[max(0, head - self._heard_until) :]
        n = min(gap, len(fade))
        silence[:n] = fade[:n]
        return silence

    def rest(self) -> None:
        """Nothing was to be played for a while: the silence before the next answer is no gap."""
        self._started = False

    def _due(self, position: int, played: int, beat: Beat) -> int:
        margin = self._margin - (MARGIN_SAMPLES - STEADY_MARGIN_SAMPLES if beat.block else 0)
        if self.offset is None:
            self.offset = played + beat.ahead(margin) - position
            self._headroom.clear()
        ahead = position + self.offset - played
        headroom = beat.slack(ahead)
        self._since_closer += 1
        self._since_late += 1
        if ahead < 0 or headroom < 0:
            self._make_room(played + beat.ahead(margin) - position, late=-ahead)
        else:
            self._headroom.append(headroom)
            self._come_closer(margin, beat)
        return position + self.offset

    def _make_room(self, offset: int, *, late: int) -> None:
        """An answer is ``late`` by so many samples; ``offset`` would have been enough for it."""
        is_rare = self._since_late > HELD_FRAMES_MIN
        self._since_late = 0
        if is_rare and late <= HELD_SAMPLES_MAX:
            return
        self.offset = offset
        self._headroom.clear()
        too_soon = self._since_closer < 2 * CALM_FRAMES_MAX
        wanted = 2 * self._calm_frames if too_soon else CALM_FRAMES_MIN
        self._calm_frames = min(CALM_FRAMES_MAX, wanted)

    def _come_closer(self, margin: int, beat: Beat) -> None:
        for frames, least in (
            (min(self._calm_frames, LAG_CALM_FRAMES_MAX), LAG_SAMPLES),
            (self._calm_frames, TOLERANCE_SAMPLES),
        ):
            if len(self._headroom) < frames or self.offset is None:
                return
            excess = beat.whole(min(list(self._headroom)[-frames:]) - margin)
            if excess > least:
                self.offset -= excess
                self._headroom.clear()
                self._since_closer = 0


def faded_out(mirrored: Samples) -> Samples:
    """What follows sound that nothing follows: its end (float32 [n], last sample first), falling
    to silence."""
    return mirrored * np.linspace(1.0, 0.0, len(mirrored), dtype=np.float32)


def _faded_in(pcm: Samples, before: Samples = _EMPTY) -> Samples:
    """``pcm`` risen from silence, or from the mirror image of the sound before."""
    pcm = pcm.copy()
    n = min(CROSS_FADE_SAMPLES, len(pcm))
    pcm[:n] *= _RISE[:n]
    n = min(n, len(before))
    pcm[:n] += before[:n] * (1 - _RISE[:n])
    return pcm


def cut_quietly(pcm: Samples, samples: int) -> Samples:
    """``pcm`` (float32 [n]) shorter by ``samples``, cut where it is quietest, cross-faded.

    Returns an empty array when that leaves no room for the cross-fade.
    """
    keep = len(pcm) - samples
    if samples <= 0:
        return pcm
    if keep < 2 * CROSS_FADE_SAMPLES:
        return _EMPTY
    fade = CROSS_FADE_SAMPLES
    energy = np.concatenate(([0.0], np.cumsum(np.square(pcm, dtype=np.float64))))
    starts = np.arange(0, keep - fade + 1)
    lost = energy[starts + samples + fade] - energy[starts]
    start = int(starts[np.argmin(lost)])
    joint = pcm[start : start + fade] * (1 - _RISE)
    joint += pcm[start + samples : start + samples + fade] * _RISE
    return np.concatenate((pcm[:start], joint, pcm[start + samples + fade :]))
