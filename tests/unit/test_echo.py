"""The echo canceller on simulated rooms: what is removed, how fast, and what the near voice loses.

Far and near are espeak-ng's voices. ERLE is the echo's level over that of what is left of it, hiss
of -90 dBFS included. The near voice's loss is the level of its share in the output, found by linear
projection: what else is in there counts neither for nor against.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from moshid.audio.devices import Heard
from moshid.audio.echo_bound import EchoBound
from moshid.audio.echo_delay import DelaySearch
from moshid.audio.echo_filter import Emphasis
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.headphones import are_headphones
from moshid.audio.hearing import Decision, Hearing, decide
from moshid.audio.reference import CAPACITY, Reference
from moshid.audio.request import Start
from tests.fakes import rooms
from tests.fakes.echo_runs import Ours, run, scene
from tests.fakes.rooms import Samples
from tests.fakes.simulated_room import RoomMicrophone, RoomSpeaker

ROOM_S = 0.2
CONVERGED_S = 2.0
DOUBLE_TALK = [(40, CONVERGED_S, 1.0), (250, 4.0, 1.0), (40, 0.0, 5.0)]
"""Delay in ms, when the near voice begins, and what it may lose. 4 dB is the promise; where both
speak from the first moment on, nothing can be learned, and the library's suppressor has it all."""


@pytest.mark.parametrize("delay_ms", [40, 150, 400])
def test_a_single_path_is_removed_by_45_db_within_two_seconds(delay_ms: int) -> None:
    heard = scene(rooms.single_path(delay_ms), 6)
    chain = Ours()
    out = run(chain, heard.microphone, heard.far)
    assert rooms.removed_db(heard.echo, out, CONVERGED_S, 6) >= 45
    assert chain.canceller.facts["delay_ms"] == pytest.approx(delay_ms, abs=1)


@pytest.mark.parametrize("delay_ms", [40, 250])
def test_a_room_is_removed_by_30_db_within_two_seconds(delay_ms: int) -> None:
    heard = scene(rooms.shoebox(ROOM_S, delay_ms), 6)
    chain = Ours()
    out = run(chain, heard.microphone, heard.far)
    assert rooms.removed_db(heard.echo, out, CONVERGED_S, 6) >= 30
    # The sound needs 1.5 ms through the air.
    assert chain.canceller.facts["delay_ms"] == pytest.approx(delay_ms + 1.5, abs=1)


@pytest.mark.parametrize(("delay_ms", "near_from_s", "loss_db_max"), DOUBLE_TALK)
def test_double_talk_costs_the_near_voice_little(
    delay_ms: int, near_from_s: float, loss_db_max: float
) -> None:
    heard = scene(rooms.shoebox(ROOM_S, delay_ms), 8, near_from_s=near_from_s)
    judged_s = near_from_s + 0.5
    chain, alone = Ours(), Ours()
    out = run(chain, heard.microphone, heard.far)
    undisturbed = run(alone, heard.near, np.zeros_like(heard.far))
    loss_db = rooms.voice_loss_db(out, heard.near, judged_s, chain.delay)
    loss_alone_db = rooms.voice_loss_db(undisturbed, heard.near, judged_s, alone.delay)
    assert loss_alone_db < 1
    assert loss_db - loss_alone_db <= loss_db_max


def test_subtraction_alone_keeps_the_near_voice_and_its_filter_in_double_talk() -> None:
    heard = scene(rooms.shoebox(ROOM_S, 40), 10, near_from_s=4)
    out = run(Ours(suppressor=False), heard.microphone, heard.far)
    assert abs(rooms.voice_loss_db(out, heard.near, 4, 0)) < 0.2
    assert rooms.removed_db(heard.echo, out - heard.near, 4, 10) >= 28


def test_where_there_is_no_echo_the_near_voice_passes_whole() -> None:
    heard = scene(rooms.single_path(40, -120), 8, near_from_s=2)
    chain = Ours()
    out = run(chain, heard.microphone, heard.far)
    assert abs(rooms.voice_loss_db(out, heard.near, 2.5, chain.delay)) < 0.5
    assert (
        rooms.removed_db(
            heard.near[: -chain.delay], out[chain.delay :] - heard.near[: -chain.delay], 2.5, 7.5
        )
        >= 20
    )


def test_an_echo_that_was_not_there_before_is_soon_removed() -> None:
    heard = scene(rooms.shoebox(ROOM_S, 40), 8)
    begins_s, soon_s = 4, 1.25
    heard.echo[: begins_s * SAMPLE_RATE] = 0
    chain = Ours()
    out = run(chain, heard.microphone, heard.far)
    assert rooms.removed_db(heard.echo, out, begins_s + soon_s, 8) >= 25


def test_what_echo_there_is_at_most_is_known_from_pauses_only() -> None:
    bound, far = EchoBound(), rooms.hiss(FRAME_SAMPLES, -30)
    quiet, loud = rooms.hiss(FRAME_SAMPLES, -90, seed=6), rooms.hiss(FRAME_SAMPLES, -50, seed=7)
    told = [bound.feed(quiet, far) for _ in range(15)]
    assert all(at_most is None for at_most in told[:11]), "at delays up to 720 ms, nothing yet"
    assert told[-1] is not None
    assert 10 * np.log10(told[-1]) == pytest.approx(-90, abs=2)
    spoken = [bound.feed(loud, far) for _ in range(30)]
    assert spoken[0] is not None, "that may be a voice"
    assert spoken[-1] is None, "one that never pauses may be an echo"


def test_a_delay_is_named_only_for_what_is_an_echo() -> None:
    search, near, far = DelaySearch(), Emphasis(), Emphasis()
    sides = zip(
        rooms.frames_of(rooms.near_voice(12)), rooms.frames_of(rooms.far_voice(12)), strict=True
    )
    for heard, played in sides:
        search.feed(near.feed(heard), far.feed(played), look=True)
    assert search.lag is None


def test_a_path_that_changes_is_learned_anew() -> None:
    before, after = rooms.shoebox(ROOM_S, 40), rooms.shoebox(ROOM_S, 250)
    heard, moved = scene(before, 8), scene(after, 8)
    change = 4 * SAMPLE_RATE
    echo = np.concatenate((heard.echo[:change], moved.echo[change:]))
    chain = Ours()
    out = run(chain, echo + rooms.hiss(len(echo), -90), heard.far)
    assert rooms.removed_db(echo, out, 2, 4) >= 30
    assert rooms.removed_db(echo, out, 6, 8) >= 30
    assert chain.canceller.facts["delay_ms"] == pytest.approx(251.5, abs=1)


def test_the_reference_gives_silence_where_nothing_was_played() -> None:
    reference = Reference()
    sound = np.arange(1, 11, dtype=np.float32)
    reference.write(100, sound)
    reference.write(115, sound)
    assert reference.read(130, 40).tolist() == [0] * 10 + [*sound] + [0] * 5 + [*sound] + [0] * 5
    later = 2 * CAPACITY + 50
    reference.write(later, sound)
    assert not reference.read(later, CAPACITY).any(), "what was there before is forgotten"
    assert reference.read(later + 10, 10).tolist() == sound.tolist()
    assert not reference.read(130, 40).any()


@pytest.mark.parametrize(
    "name",
    ["Jo's AirPods Pro", "External Headphones", "USB Headset", "Sony WF-1000 Earbuds", "Kopfhörer"],
)
def test_headphones_are_known_by_their_names(name: str) -> None:
    assert are_headphones(name)


@pytest.mark.parametrize(
    "name", ["MacBook Pro Speakers", "system", "Built-in Audio Analog Stereo", "LG HDR 4K", ""]
)
def test_speakers_are_no_headphones(name: str) -> None:
    assert not are_headphones(name)


def test_beside_headphones_and_files_nothing_is_cancelled() -> None:
    microphone, file = {"name": "Microphone"}, {"file": "/a.wav"}
    worn = {"name": "Jo's AirPods Pro"}
    assert decide("auto", microphone, {"name": "Speakers"}) == Decision(True, "room")
    assert decide("auto", microphone, worn) == Decision(False, "headphones")
    assert decide(True, microphone, worn) == Decision(True, "asked")
    assert decide(False, microphone, {"name": "Speakers"}) == Decision(False, "asked")
    assert decide(True, microphone, file) == Decision(False, "files")
    assert decide("auto", file, {"name": "Speakers"}) == Decision(False, "files")


def heard_through(**wish: Any) -> tuple[Hearing, Samples]:
    """Six seconds of a faint voice in hiss, beside headphones; the last second is hiss alone."""
    user = rooms.speech(rooms.NEAR_TEXT, "en-gb+f2", 6, dbfs=-40)
    user[5 * SAMPLE_RATE :] = 0
    user += rooms.hiss(len(user), -55)
    speaker = RoomSpeaker(len(user), name="Headphones")
    microphone = RoomMicrophone(user, speaker, rooms.single_path(40))
    hearing = Hearing(Start(session="s", **wish), microphone, speaker)
    frames = [
        hearing.hear(Heard(pcm, i * FRAME_SAMPLES, 0))
        for i, pcm in enumerate(rooms.frames_of(user))
    ]
    return hearing, np.concatenate(frames)


def test_noise_and_gain_are_left_alone_until_asked_for() -> None:
    hearing, plain = heard_through()
    assert hearing.facts() == {
        "echo_cancel": False,
        "echo": {
            "why": "headphones",
            "suppressor": False,
            "noise_suppression": False,
            "auto_gain": False,
        },
    }
    assert hearing.delay_ns == 0
    _, quiet = heard_through(noise_suppression=True)
    hearing, loud = heard_through(auto_gain=True)
    assert hearing.facts()["echo"]["auto_gain"]
    pause = slice(round(5.4 * SAMPLE_RATE), None)
    voice = slice(SAMPLE_RATE * 3, SAMPLE_RATE * 5)
    assert rooms.level_db(plain[pause]) - rooms.level_db(quiet[pause]) > 6
    assert rooms.level_db(loud[voice]) - rooms.level_db(plain[voice]) > 6


def test_without_the_library_the_echo_is_still_subtracted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)
    speaker = RoomSpeaker(0)
    hearing = Hearing(
        Start(session="s", noise_suppression=True),
        RoomMicrophone(np.zeros(0, np.float32), speaker, rooms.single_path(40)),
        speaker,
    )
    facts = hearing.facts()
    assert hearing.warning is not None
    assert "pywebrtc-audio cannot be loaded" in hearing.warning
    assert facts["echo_cancel"]
    assert not facts["echo"]["suppressor"]
    assert not facts["echo"]["noise_suppression"]
    heard = Heard(np.zeros(FRAME_SAMPLES, np.float32), 0, 0)
    assert not hearing.hear(heard).any()


def test_a_lesson_that_nobody_had_time_for_is_learned_before_the_next_frame() -> None:
    heard = scene(rooms.single_path(40), 3)
    in_time, late = (run(Ours(in_time=t), heard.microphone, heard.far) for t in (True, False))
    assert np.array_equal(in_time, late)
    assert rooms.removed_db(heard.echo, late, 2, 3) >= 45


LATE_IMPORTS = """
import sys
import numpy as np
from moshid.audio.echo import FAR_SAMPLES, EchoCanceller
from moshid.audio.webrtc import EchoSuppressor

far = np.random.default_rng(1).standard_normal(24_000 * 6).astype(np.float32) * 0.1
canceller = EchoCanceller(EchoSuppressor())
known = None
for end in range(FAR_SAMPLES + 1920, len(far), 1920):
    near = 0.3 * far[end - 3120 : end - 1200]
    canceller.process(near, far[end - FAR_SAMPLES : end])
    canceller.learn()
    known = known or set(sys.modules)
assert canceller.facts["linear_erle_db"] > 15, canceller.facts
print(sorted(set(sys.modules) - known))
"""


def test_no_library_is_loaded_while_frames_wait() -> None:
    """numpy loads some of itself at the first use, which takes a hundredth of a second and more."""
    child = subprocess.run(
        [sys.executable, "-c", LATE_IMPORTS], check=True, capture_output=True, text=True
    )
    assert child.stdout.strip() == "[]"
