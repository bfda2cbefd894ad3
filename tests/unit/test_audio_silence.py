"""Devices that fall silent, hang or go, in virtual time: what is noticed, and when."""

from __future__ import annotations

import numpy as np
import pytest

from moshid.audio.clocks import TwoClocks
from moshid.audio.live import MicrophoneSource, SpeakerSink
from moshid.audio.ring import Samples
from moshid.audio.silence import STUCK_FRAMES, SilenceWatch, asleep_ns
from moshid.errors import DeviceFailed
from tests.fakes.simulated_devices import SECOND_NS, Script, SimulatedStream

POLL_NS = 10_000_000


def hiss(_index: int, n: int) -> Samples:
    return np.full(n, 0.001, dtype=np.float32)


def listen(
    script: Script, seconds: float, *, may_be_stuck: bool = True, zeros_known: bool = False
) -> tuple[list[float], DeviceFailed | None]:
    """When the microphone was called silent, and how it ended."""
    stream = SimulatedStream(script, hears=hiss)
    watch = SilenceWatch(may_be_stuck=may_be_stuck, zeros_known=zeros_known)
    source = MicrophoneSource(stream, watch, asleep=lambda: 0)
    silent: list[float] = []
    source.start(0)
    for now_ns in range(POLL_NS, round(seconds * SECOND_NS), POLL_NS):
        stream.run_until(now_ns)
        try:
            source.take(now_ns)
        except DeviceFailed as e:
            e.facts["s"] = now_ns / SECOND_NS
            return silent, e
        if source.silent:
            silent.append(now_ns / SECOND_NS)
    return silent, None


def test_a_second_of_zeros_is_noticed_and_sound_ends_it() -> None:
    silent, failed = listen(Script(zeros=[(2.0, 4.0)]), 10.0)
    assert failed is None
    assert silent[0] == pytest.approx(3.05, abs=0.1)
    assert silent[-1] == pytest.approx(4.0, abs=0.1)


def test_five_seconds_of_zeros_after_sound_are_a_dead_stream() -> None:
    _, failed = listen(Script(zeros=[(2.0, 99.0)]), 30.0)
    assert failed is not None
    assert failed.facts["s"] == pytest.approx(2.0 + 0.08 * STUCK_FRAMES, abs=0.1)
    assert failed.facts["silent"] is True
    assert failed.facts["direction"] == "input"


@pytest.mark.parametrize("kind", [{"may_be_stuck": False}, {"zeros_known": True}])
def test_zeros_that_are_no_sign_end_nothing(kind: dict[str, bool]) -> None:
    assert listen(Script(zeros=[(2.0, 99.0)]), 30.0, **kind)[1] is None


def test_a_microphone_muted_from_the_start_is_not_opened_again_and_again() -> None:
    assert listen(Script(zeros=[(0.0, 99.0)]), 30.0)[1] is None


def test_after_a_sleep_a_second_of_zeros_is_enough() -> None:
    watch = SilenceWatch(may_be_stuck=True, zeros_known=True)
    assert watch.judge(sounds=True, asleep_ns=0) == "sound"
    slept_ns = 3600 * SECOND_NS
    judged = [watch.judge(sounds=False, asleep_ns=slept_ns) for _ in range(13)]
    assert set(judged[:12]) == {"sound"}
    assert judged[12] == "stuck"


def test_how_long_the_machine_has_slept_grows_only_in_its_sleep() -> None:
    first, second = asleep_ns(), asleep_ns()
    assert abs(second - first) < SECOND_NS


def test_a_device_that_says_nothing_more_is_noticed() -> None:
    _, failed = listen(Script(hangs=[(3.0, 99.0)]), 30.0)
    assert failed is not None
    assert failed.facts["s"] == pytest.approx(4.0, abs=0.05)
    assert failed.facts["direction"] == "input"


def test_a_device_that_is_pulled_out_is_noticed_at_once() -> None:
    _, failed = listen(Script(gone_s=3.0), 30.0)
    assert failed is not None
    assert failed.facts["s"] == pytest.approx(3.0, abs=0.02)


def test_a_lost_speaker_is_told_as_the_output() -> None:
    stream = SimulatedStream(Script(gone_s=1.0), plays=lambda _pcm: None)
    sink = SpeakerSink(stream)
    sink.start(0)
    with pytest.raises(DeviceFailed) as caught:
        sink.too_late(0, SECOND_NS)
    assert caught.value.facts["direction"] == "output"


def test_a_speaker_that_goes_while_nothing_is_played_is_noticed_too() -> None:
    """The model may be away: then only the microphone is looked after."""
    hearing = SimulatedStream(Script(), hears=hiss)
    playing = SimulatedStream(Script(gone_s=2.0), plays=lambda _pcm: None)
    clocks = TwoClocks(hearing, playing)
    source = MicrophoneSource(hearing, SilenceWatch(may_be_stuck=False), clocks=clocks)
    source.start(0)
    for now_ns in range(POLL_NS, 2 * SECOND_NS, POLL_NS):
        hearing.run_until(now_ns)
        playing.run_until(now_ns)
        source.take(now_ns)
    with pytest.raises(DeviceFailed) as caught:
        source.take(2 * SECOND_NS)
    assert caught.value.facts["direction"] == "output"
