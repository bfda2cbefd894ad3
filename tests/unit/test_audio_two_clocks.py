"""Two sound devices, two clocks: an hour of virtual time, half a thousandth apart."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from moshid.audio.drift import DRIFT_MAX, STEER_MAX, STEER_STEP_MAX, Distance, steering
from moshid.audio.ring import Samples
from moshid.audio.sinc import SincResampler
from tests.fakes.simulated_devices import Script, SimulatedStream, late_by
from tests.fakes.virtual_loop import VirtualLoop

MS = 1_000_000
RATE = 24_000
HERTZ = 1_000.0
BASE_S = 0.5
"""When the loop starts, so that bases are taken."""

Numbers = npt.NDArray[np.float64]


def ones(_index: int, n: int) -> Samples:
    return np.ones(n, dtype=np.float32)


def forget(_pcm: Samples) -> None:
    return None


def counting_loop(hearing: Script, playing: Script, *, rate: float = RATE) -> VirtualLoop:
    return VirtualLoop(
        SimulatedStream(hearing, hears=ones),
        SimulatedStream(playing, plays=forget, rate=rate),
        counting=True,
    )


def latency_ms(loop: VirtualLoop, ppm: float) -> Numbers:
    """True mouth to ear of each answer, from the scripted clocks, not from any stamp."""
    rate = loop.playing.rate * (1 + 1e-6 * ppm)
    base = loop.hearing.base()[0]
    return np.array([1e3 * (a.index / rate - (a.position + base) / RATE) for a in loop.answers])


@pytest.mark.parametrize(("ppm", "seconds"), [(500.0, 3600.0), (-500.0, 600.0)])
def test_an_hour_half_a_thousandth_apart_at_one_latency(ppm: float, seconds: float) -> None:
    hearing = Script(late_ns=late_by(MS, 1))
    playing = Script(ppm=lambda _s: ppm, late_ns=late_by(2 * MS, 2))
    loop = counting_loop(hearing, playing)
    loop.run(seconds)
    assert len(loop.answers) > 12.48 * seconds
    assert loop.sink.underruns == loop.sink.late_frames == loop.source.overruns == 0
    # Uncorrected, the two would be 1,800 ms apart at the end.
    after_a_minute = latency_ms(loop, ppm)[750:]
    assert np.ptp(after_a_minute) < 0.5
    assert loop.sink._playout.cuts == 0
    assert max(a.queued_s for a in loop.answers) < 0.12
    assert loop.sink.drift_ppm == pytest.approx(ppm, abs=10)


def test_the_drift_is_told_after_some_seconds_and_not_before() -> None:
    playing = Script(ppm=lambda _s: 300.0, late_ns=late_by(2 * MS, 2))
    loop = counting_loop(Script(late_ns=late_by(MS, 1)), playing)
    loop.run(BASE_S + 2.0)
    assert loop.sink.drift_ppm is None
    loop.run(15.0)
    assert loop.sink.drift_ppm == pytest.approx(300, abs=60)


def test_a_clock_that_wanders_is_followed() -> None:
    """As a warming crystal does, only ten times as fast, and with a jump of 200 ppm."""
    hearing = Script(late_ns=late_by(MS, 1))
    playing = Script(
        ppm=lambda s: 150 * math.sin(s / 100) + (200 if s > 400 else 0), late_ns=late_by(MS, 2)
    )
    loop = counting_loop(hearing, playing)
    loop.run(800.0)
    assert loop.sink.underruns == loop.sink.late_frames == 0
    queued_ms = np.array([1e3 * a.queued_s for a in loop.answers[125:]])
    a_second = np.convolve(queued_ms, np.ones(12) / 12, "valid")
    assert np.ptp(a_second) < 10.0


def test_jitter_of_a_desktop_server_is_no_drift() -> None:
    loop = counting_loop(Script(late_ns=late_by(6 * MS, 1)), Script(late_ns=late_by(12 * MS, 2)))
    loop.run(300.0)
    assert loop.sink.underruns == loop.sink.late_frames == 0
    assert loop.sink.drift_ppm == pytest.approx(0, abs=20)


@pytest.mark.parametrize("side", ["hearing", "playing"])
def test_sound_that_a_device_loses_leaves_no_lag_behind(side: str) -> None:
    """100 ms vanish without a word; a while later the latency is what it was."""
    hang = [(60.0, 60.1)]
    hearing = Script(late_ns=late_by(MS, 1), hangs=hang if side == "hearing" else [])
    playing = Script(late_ns=late_by(MS, 2), hangs=hang if side == "playing" else [])
    loop = counting_loop(hearing, playing)
    loop.run(120.0)
    queued_ms = np.array([1e3 * a.queued_s for a in loop.answers])
    before, after = queued_ms[600:700].mean(), queued_ms[-125:].mean()
    assert after == pytest.approx(before, abs=5)
    assert loop.sink.late_frames <= 13, "a second of answers that came too late, at most"


@pytest.mark.parametrize(("rate_in", "rate_out"), [(RATE, RATE), (44_100, 48_000)])
def test_a_tone_comes_through_clean(rate_in: int, rate_out: int) -> None:
    """No click in a minute, and what is not the tone lies far below it."""
    said: list[Samples] = []

    def tone(index: int, n: int) -> Samples:
        turns = HERTZ / rate_in * np.arange(index, index + n)
        return np.asarray(0.5 * np.sin(2 * np.pi * turns), dtype=np.float32)

    playing = Script(ppm=lambda _s: 500.0, late_ns=late_by(2 * MS, 2))
    loop = VirtualLoop(
        SimulatedStream(Script(late_ns=late_by(MS, 1)), hears=tone, rate=rate_in),
        SimulatedStream(playing, plays=said.append, rate=rate_out),
    )
    loop.run(60.0)
    sound = np.concatenate(said).astype(np.float64)[5 * rate_out :]
    assert loop.sink.underruns == 0
    # In its own samples the speaker hears the tone lower, since its clock is the faster.
    hertz = HERTZ / (1 + 5e-4)
    turn = 2 * np.cos(2 * np.pi * hertz / rate_out)
    clicks = np.abs(sound[2:] - turn * sound[1:-1] + sound[:-2])
    assert clicks.max() < 2e-4
    pure_db = [purity_db(s, hertz, rate_out) for s in np.split(sound[: 50 * rate_out], 50)]
    assert min(pure_db) > 60, "while the pitch bends to take a delay away"
    assert np.median(pure_db) > 80


def purity_db(sound: Numbers, hertz: float, rate: int) -> float:
    """The tone's power over that of all that lies 10 Hz or more beside it."""
    spectrum = np.square(np.abs(np.fft.rfft(sound * np.kaiser(len(sound), 14))))
    near = np.abs(np.fft.rfftfreq(len(sound), 1 / rate) - hertz) < 10
    return float(10 * np.log10(spectrum[near].sum() / spectrum[~near].sum()))


@pytest.mark.parametrize("rate_in", [16_000, 44_100, 48_000, 96_000])
def test_the_resampler_knows_where_each_sample_is(rate_in: int) -> None:
    resampler = SincResampler(rate_in, RATE)
    rng = np.random.default_rng(2)
    given = np.sin(2 * np.pi * 200 * np.arange(3 * rate_in) / rate_in).astype(np.float32)
    fed, made, out = 0, 0.0, []
    while fed < 2 * rate_in:
        n = int(rng.integers(1, 1000))
        ratio = resampler.ratio * (1 + 1e-3 * rng.standard_normal())
        begin = fed - resampler.inside
        piece = resampler.feed(given[fed : fed + n], ratio)
        fed += n
        # Each sample's place on the input's line, and what the sine is there.
        places = begin + np.arange(len(piece)) / ratio
        out.append(np.abs(piece - np.sin(2 * np.pi * 200 * places / rate_in)))
        made += len(piece) / ratio
        assert resampler.inside <= resampler.inside_max
    assert made == pytest.approx(fed - resampler.inside, abs=1e-3)
    errors = np.concatenate(out)[200:]
    assert errors.max() < 1e-3


def test_frequencies_that_24_khz_cannot_carry_are_kept_out() -> None:
    resampler = SincResampler(48_000, RATE)
    hiss = np.sin(2 * np.pi * 13_000 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resampler.feed(hiss, 0.5)[200:]).max() < 1e-4


def test_on_one_clock_every_sample_comes_back_untouched() -> None:
    said: list[Samples] = []
    noise = np.random.default_rng(4).standard_normal(80 * RATE).astype(np.float32)
    script = Script(ppm=lambda _s: 300.0, late_ns=late_by(MS, 1))
    both = SimulatedStream(
        script, hears=lambda index, n: noise[index : index + n], plays=said.append
    )
    loop = VirtualLoop(both, both)
    loop.run(60.0)
    sound = np.concatenate(said)
    first = loop.answers[0]
    begin = round(first.index)
    end = begin + 58 * RATE
    heard_at = loop.hearing.base()[0] + first.position
    assert np.array_equal(sound[begin:end], noise[heard_at : heard_at + 58 * RATE])
    assert loop.sink.drift_ppm is None


def test_steering_is_bounded_and_bends_and_goes_the_right_way() -> None:
    assert steering(5e-4, 5e-4, 0.0) == 5e-4
    assert steering(0.0, 0.0, 60.0) < 0.0, "too much is queued: make less"
    assert steering(0.0, 5e-4, 0.0) == STEER_STEP_MAX
    assert steering(STEER_MAX, 1.0, 0.0) == STEER_MAX
    assert steering(-STEER_MAX, -1.0, 0.0) == -STEER_MAX


def test_one_wild_stamp_moves_nothing() -> None:
    distance = Distance()
    for k in range(1, 1000):
        wild = 4_000 if k == 700 else 0
        distance.add(k * 1920 + wild, k * 80 * MS, k * 1920, k * 80 * MS)
    assert distance.at(1000 * 80 * MS) == pytest.approx(0, abs=0.5)


def test_half_a_second_of_wild_stamps_moves_nothing() -> None:
    distance = Distance()
    for k in range(1, 1000):
        wild = 4_000 if 700 <= k < 708 else 0
        distance.add(k * 1920 + wild, k * 80 * MS, k * 1920, k * 80 * MS)
        assert distance.at(k * 80 * MS) == pytest.approx(0, abs=0.5)


def test_a_server_without_time_for_its_work_is_no_drift_of_a_clock() -> None:
    distance = Distance()
    for k in range(1, 500):
        distance.add(k * 1920, k * 80 * MS, k * 960, k * 80 * MS)
    assert abs(distance.drift) <= DRIFT_MAX
