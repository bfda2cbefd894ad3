"""What is done of a frame before it is whole is what would have been done of it then."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from moshid.audio.conversation import Conversation
from moshid.audio.devices import EarlySource, Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, HALF_SAMPLES
from moshid.audio.live import MicrophoneSource
from moshid.audio.request import ControlChanges
from moshid.audio.ring import Samples
from moshid.audio.silence import SilenceWatch
from tests.fakes import rooms
from tests.fakes.echo_runs import Ours, run, scene
from tests.fakes.simulated_devices import SECOND_NS, Script, SimulatedStream

POLL_NS = 5_000_000


def hum(index: int, n: int) -> Samples:
    return np.sin(np.arange(index, index + n) / 30).astype(np.float32)


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_a_microphone_gives_the_first_half_early_and_then_the_whole(rate: int) -> None:
    stream = SimulatedStream(Script(block=rate // 100), hears=hum, rate=rate)
    source = MicrophoneSource(stream, SilenceWatch(may_be_stuck=False), asleep=lambda: 0)
    assert isinstance(source, EarlySource)
    source.start(0)
    half: Heard | None = None
    early_ns, wholes = [], []
    for now_ns in range(POLL_NS, 2 * SECOND_NS, POLL_NS):
        stream.run_until(now_ns)
        heard = source.take(now_ns)
        if heard is not None:
            assert half is not None
            assert np.array_equal(half.pcm, heard.pcm[:HALF_SAMPLES])
            assert half.position == heard.position
            assert heard.capture_ns - half.capture_ns == pytest.approx(FRAME_NS / 2, abs=50_000)
            early_ns.append(now_ns)
            wholes.append(heard)
        half = source.first_half(now_ns)
        assert source.half_wait_s(now_ns) <= source.wait_s(now_ns)
    assert len(wholes) > 20
    assert all(b.position - a.position == FRAME_SAMPLES for a, b in pairwise(wholes))


def test_a_half_is_waited_for_for_half_the_time() -> None:
    stream = SimulatedStream(Script(), hears=hum)
    source = MicrophoneSource(stream, SilenceWatch(may_be_stuck=False), asleep=lambda: 0)
    source.start(0)
    now_ns = 12 * FRAME_NS + FRAME_NS // 4
    stream.run_until(now_ns)
    while source.take(now_ns) is not None:
        assert len(stream.heard) == 0
    already_s = len(source._frame) / 24_000 + (now_ns - stream.stamp_ns) / 1e9
    assert source.half_wait_s(now_ns) == pytest.approx(0.04 - already_s, abs=0.001)
    assert source.wait_s(now_ns) == pytest.approx(0.08 - already_s, abs=0.001)


def test_the_echo_is_removed_from_halves_as_from_wholes() -> None:
    heard = scene(rooms.shoebox(0.2, 40), 8, near_from_s=5)
    chain, halves = Ours(), Ours(parts=2)
    whole = run(chain, heard.microphone, heard.far)
    halved = run(halves, heard.microphone, heard.far)
    assert rooms.removed_db(heard.echo, halved, 2, 5) >= 30
    removed_db = rooms.removed_db(heard.echo, whole, 2, 5)
    assert rooms.removed_db(heard.echo, halved, 2, 5) == pytest.approx(removed_db, abs=2)
    loss_db = rooms.voice_loss_db(halved, heard.near, 5.5, halves.delay)
    assert loss_db <= rooms.voice_loss_db(whole, heard.near, 5.5, chain.delay) + 0.3
    assert halves.canceller.facts["delay_ms"] == chain.canceller.facts["delay_ms"]


def test_a_part_that_is_no_half_does_as_well() -> None:
    """Parts are of whole pieces of 10 ms; nothing is kept between them but what a filter keeps."""
    heard = scene(rooms.single_path(40), 3)
    eighths = Ours(parts=8)
    out = run(eighths, heard.microphone, heard.far)
    assert rooms.removed_db(heard.echo, out, 2, 3) >= 45


@pytest.mark.parametrize("at_ms", [10, 39, 40, 41, 75])
def test_mute_is_heard_by_halves_as_by_wholes(at_ms: int) -> None:
    """In the midst of a half, at the seam, and so that the ramp goes over it."""
    ones = np.ones(FRAME_SAMPLES, dtype=np.float32)
    whole, halved = (Conversation() for _ in range(2))
    heard, out = [], []
    for frame in range(3):
        for conversation in (whole, halved):
            if frame == 1:
                conversation.set(ControlChanges(muted=True), FRAME_NS + at_ms * 1_000_000)
        end_ns = (frame + 1) * FRAME_NS
        half_ns = end_ns - FRAME_NS // 2
        heard.append(whole.to_model(Heard(ones, 0, end_ns)))
        out.append(halved.to_model(Heard(ones[:HALF_SAMPLES], 0, half_ns)))
        out.append(halved.to_model(Heard(ones[HALF_SAMPLES:], 0, end_ns)))
    assert np.allclose(np.concatenate(heard), np.concatenate(out), atol=1e-6)
    assert heard[0].min() == 1
    assert 0 < heard[1].mean() < 1
    assert heard[2][-1] == 0


def test_the_frame_in_which_a_pause_fades_still_goes_to_the_model() -> None:
    conversation = Conversation()
    goes = []
    for frame in range(5):
        if frame == 1:
            conversation.set(ControlChanges(paused=True), 2 * FRAME_NS - 3_000_000)
        whole = Heard(np.ones(FRAME_SAMPLES, np.float32), 0, (frame + 1) * FRAME_NS)
        pcm = conversation.to_model(whole)
        goes.append((conversation.reaches_model(), bool(pcm.any())))
        conversation.hear(frame, whole, whole, pcm)
    # The ramp of 10 ms begins 3 ms before a frame's end, and goes on in the next.
    assert goes == [(True, True), (True, True), (True, True), (False, False), (False, False)]
