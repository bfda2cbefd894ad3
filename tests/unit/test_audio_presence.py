"""Who speaks, and how soon Moshi falls silent when spoken to: in frames."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile

from moshid.audio.conversation import Conversation
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, level_dbfs, silence
from moshid.audio.presence import Presence, Steady
from moshid.audio.pump import Answer
from moshid.audio.ring import Samples
from moshid.audio.speech import EnergyDetector, SpeechDetector, WebRtcDetector, open_detector
from moshid.demo import checkpoint

LOUD, QUIET = -20.0, -90.0


def talk(user: str, moshi: str, *, muted: str = "") -> Presence:
    """Frame by frame: ``#`` speaks, ``.`` does not."""
    presence = Presence()
    for frame, (u, m) in enumerate(zip(user, moshi, strict=True)):
        presence.update(
            frame,
            speech=0.9 if u == "#" else 0.1,
            hears=muted[frame : frame + 1] != "#",
            moshi_dbfs=LOUD if m == "#" else QUIET,
        )
    return presence


def test_a_state_lasts_before_it_changes_and_is_dated_back() -> None:
    steady = Steady(0.5, 0.25, on_frames=2, off_frames=3)
    changes = []
    for frame, value in enumerate([0.9, 0.1, 0.9, 0.6, 0.3, 0.3, 0.2, 0.3, 0.2, 0.2, 0.2]):
        if steady.update(value, frame):
            changes.append((frame, steady.state, steady.since))
    assert changes == [(3, True, 2), (10, False, 8)]
    assert not steady.reset(11)


def test_an_interruption_is_counted_from_the_users_first_frame_to_moshis_first_silent_one() -> None:
    #                   0         1         2
    #                   0123456789012345678901234567890
    presence = talk(
        user="..........#########............",
        moshi="..############..............".ljust(31, "."),
    )
    assert presence.interrupts.to_dict() == {"count": 1, "last_ms": 320, "p50_ms": 320}
    assert not presence.moshi_speaking
    assert not presence.user_speaking


def test_a_word_of_assent_is_no_interruption() -> None:
    presence = talk(user="." * 10 + "##" + "." * 30, moshi="#" * 30 + "." * 12)
    assert presence.interrupts.to_dict() == {"count": 0, "last_ms": None, "p50_ms": None}


def test_who_speaks_on_after_moshi_had_stopped_interrupts_nobody() -> None:
    presence = talk(user="." * 12 + "#" * 10, moshi="#" * 11 + "." * 11)
    assert presence.interrupts.count == 0
    assert presence.user_speaking


def test_moshis_breath_is_no_silence() -> None:
    presence = talk(user="." * 20, moshi="#####...#####..#####")
    assert presence.moshi_speaking


def test_what_is_not_heard_interrupts_nobody() -> None:
    presence = talk(user="." * 5 + "#" * 15, moshi="#" * 10 + "." * 10, muted="#" * 20)
    assert presence.interrupts.count == 0
    assert not presence.user_speaking


def test_the_median_of_several() -> None:
    once = ("....####" + "." * 12, "######.." + "." * 12)
    slow = ("....########" + "." * 8, "##########" + "." * 10)
    users, moshis = zip(once, slow, slow, strict=True)
    presence = talk(user="".join(users), moshi="".join(moshis))
    assert presence.interrupts.to_dict() == {"count": 3, "last_ms": 480, "p50_ms": 480}


class Scripted:
    """A detector that says what a test wants: speech from frame to frame."""

    def __init__(self, first: int, last: int) -> None:
        self.frames = itertools.count()
        self.speech = range(first, last)

    def probability(self, pcm: Samples) -> float:
        """See SpeechDetector."""
        assert len(pcm) == FRAME_SAMPLES
        return 0.9 if next(self.frames) in self.speech else 0.0


def test_an_interruption_counts_to_where_moshi_is_no_longer_heard() -> None:
    """Moshi's answers are heard 20 ms after their frame's end; the last loud one is to frame 14."""
    conversation = Conversation(detector=Scripted(10, 30))
    loud = np.full(FRAME_SAMPLES, 0.1, dtype=np.float32)
    for n in range(40):
        heard = Heard(silence(), n * FRAME_SAMPLES, (n + 1) * FRAME_NS)
        conversation.hear(n, heard, heard, conversation.to_model(heard))
        said, played = conversation.say(loud if n < 15 else silence())
        answer = Answer(n, heard.position, heard.capture_ns, (), 0, heard.capture_ns)
        conversation.played(said, played, answer, heard.capture_ns + 20_000_000)
        level = conversation.level(n)
        assert level["moshi_speaking"] == (1 <= n < 21)
        assert level["user_speaking"] == (11 <= n < 33)
        assert (level["output_dbfs"] > -30) == (1 <= n < 16)
    # From frame 10 to frame 16, the first in which nothing of Moshi is heard.
    assert conversation.stats(underruns=0)["interrupts"]["last_ms"] == 6 * 80


def frames_of(pcm: Samples) -> list[Samples]:
    whole = len(pcm) // FRAME_SAMPLES
    return list(pcm[: whole * FRAME_SAMPLES].reshape(whole, FRAME_SAMPLES))


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Two seconds of a quiet room, four sentences, two seconds of it; noise of -60 dBFS."""
    said: Samples = soundfile.read(checkpoint.speech_wav(), dtype="float32")[0]
    room = np.zeros(48_000, dtype=np.float32)
    pcm = np.concatenate((room, said, room))
    noise = 1e-3 * np.random.default_rng(3).standard_normal(len(pcm))
    return (pcm + noise).astype(np.float32)


@pytest.mark.parametrize("detector", [WebRtcDetector, EnergyDetector])
def test_speech_is_told_from_a_quiet_room(
    detector: type[WebRtcDetector | EnergyDetector], speech: Samples
) -> None:
    told = detector()
    values = [told.probability(frame) for frame in frames_of(speech)]
    assert all(0.0 <= value <= 1.0 for value in values)
    room = values[8:24] + values[-16:]
    assert max(room) < 0.25, "below the threshold at which speech ends"
    loud = [level_dbfs(frame) > -30 for frame in frames_of(speech)]
    assert np.mean(np.array(values)[loud] > 0.5) > 0.7
    presence, spoke = Presence(), []
    for frame, value in enumerate(values):
        presence.update(frame, speech=value, hears=True, moshi_dbfs=QUIET)
        spoke.append(presence.user_speaking)
    assert spoke.index(True) in range(31, 36), "the first sentence begins in frame 31"
    assert not spoke[-1]


NOISE = 0.03 * np.random.default_rng(1).standard_normal(4 * 24_000)
TONE = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * 24_000) / 24_000)


@pytest.mark.parametrize("sound", [NOISE, TONE], ids=["noise", "tone"])
def test_neither_noise_nor_a_tone_is_speech_to_webrtc(sound: Samples) -> None:
    detector = WebRtcDetector()
    values = [detector.probability(frame) for frame in frames_of(sound.astype(np.float32))]
    assert max(values[3:]) < 0.25


@pytest.mark.parametrize("detector", [WebRtcDetector(), EnergyDetector()])
def test_digital_silence_is_no_speech(detector: SpeechDetector, speech: Samples) -> None:
    for frame in frames_of(speech)[:60]:
        detector.probability(frame)
    assert detector.probability(silence()) == 0.0


def test_the_library_is_used_where_it_is() -> None:
    assert isinstance(open_detector(), WebRtcDetector)
