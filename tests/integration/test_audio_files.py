"""The audio worker between files: real process, real demo codec, a parrot in place of the model."""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.demo.lags import envelope_lag
from moshid.errors import (
    BadAudioFile,
    InvalidParams,
    MethodNotFound,
    NoDevice,
    NoTalk,
    RecordingFailed,
    TalkBusy,
)
from moshid.ipc import FrameKind
from tests.fakes.audio_rig import audio_worker, make_speech
from tests.fakes.parrot_peer import ParrotPeer

RATE = 24_000
FRAME = 1_920


@pytest.mark.asyncio
@pytest.mark.parametrize(("fast", "rate", "channels"), [(True, 24_000, 1), (False, 44_100, 2)])
async def test_speech_comes_back_from_the_parrot(
    tmp_path: Path, fast: bool, rate: int, channels: int
) -> None:
    speech = make_speech(tmp_path / "in.wav", rate=rate, channels=channels)
    out = tmp_path / "out.wav"
    async with audio_worker(tmp_path) as rig:
        await rig.prepare()
        with ParrotPeer(step_s=0.005) as peer:
            answer = await rig.start(peer, in_file=str(speech), out_file=str(out), fast=fast)
            ended = await rig.wait_for("ended")
            assert peer.ended.is_set() or peer.ended.wait(10)
    assert answer["devices"]["input"]["rate"] == rate
    assert ended["reason"] == "input_end"
    states = [data["state"] for data in rig.of("state")]
    assert states == ["listening", "stopping", "stopped"]

    spoken, _rate = soundfile.read(speech, always_2d=True)
    heard, heard_rate = soundfile.read(out)
    seconds = len(spoken) / rate
    frames = int(np.ceil(seconds / 0.08)) + 2 + 1
    assert heard_rate == RATE
    assert ended["stats"]["frames"] == frames
    assert len(heard) == (frames + 1) * FRAME
    said = [f for f in peer.heard if f.kind == FrameKind.USER]
    assert [f.frame for f in said] == list(range(frames))
    assert {f.epoch for f in said} == {1}
    assert ended["stats"]["lagged_frames"] == 0

    mono = soundfile.read(make_speech(tmp_path / "mono.wav"))[0]
    lag_s, correlation = envelope_lag(mono, heard, RATE)
    # Two frames of the parrot, one being filled, and the codec's own 10 ms.
    assert lag_s == pytest.approx(0.25, abs=0.011)
    assert correlation > 0.75


@pytest.mark.asyncio
async def test_echo_between_files_returns_the_sound_one_frame_later(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    out = tmp_path / "out.wav"
    async with audio_worker(tmp_path) as rig:
        await rig.start(None, in_file=str(speech), out_file=str(out), fast=True)
        await rig.wait_for("ended")
    spoken, heard = soundfile.read(speech)[0], soundfile.read(out)[0]
    # 16 bits are cut off, not rounded, as upstream writes them.
    assert np.abs(heard[FRAME : FRAME + len(spoken)] - spoken).max() <= 2**-15
    assert not heard[:FRAME].any()


@pytest.mark.asyncio
async def test_seconds_cut_the_input_and_the_answer_still_comes_out(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    out = tmp_path / "out.wav"
    async with audio_worker(tmp_path) as rig:
        await rig.prepare()
        with ParrotPeer() as peer:
            await rig.start(peer, in_file=str(speech), out_file=str(out), fast=True, seconds=0.8)
            ended = await rig.wait_for("ended")
    assert ended["stats"]["frames"] == 10 + 2 + 1
    assert ended["reason"] == "seconds"
    assert len(soundfile.read(out)[0]) == 14 * FRAME


@pytest.mark.asyncio
async def test_bad_requests_are_refused_by_kind_and_the_worker_survives(tmp_path: Path) -> None:
    not_sound = tmp_path / "text.wav"
    not_sound.write_text("this is no sound")
    speech = make_speech(tmp_path / "in.wav")
    out = str(tmp_path / "out.wav")
    files = {"in_file": str(speech), "out_file": out}
    async with audio_worker(tmp_path) as rig:
        await rig.prepare()
        with pytest.raises(MethodNotFound):
            await rig.worker.call("sing")
        with pytest.raises(InvalidParams, match="seconds"):
            await rig.start(None, **files, seconds="long")
        with pytest.raises(InvalidParams, match="absolute"):
            await rig.start(None, **files, record={"path": "r.wav"})
        with pytest.raises(InvalidParams, match="fast"):
            await rig.start(None, in_file=str(speech), fast=True)
        with pytest.raises(BadAudioFile, match="no sound file"):
            await rig.start(None, in_file=str(not_sound), out_file=out)
        with pytest.raises(BadAudioFile, match="no file"):
            await rig.start(None, in_file=str(tmp_path / "none.wav"), out_file=out)
        with pytest.raises(BadAudioFile, match="regular"):
            await rig.start(None, in_file=str(tmp_path), out_file=out)
        with pytest.raises(BadAudioFile, match="folder"):
            await rig.start(None, in_file=str(speech), out_file=str(tmp_path / "no" / "o.wav"))
        with pytest.raises(BadAudioFile):
            await rig.start(None, in_file=str(speech), out_file=str(tmp_path / "out.xyz"))
        with pytest.raises(NoDevice, match="there is no sound input"):
            await rig.worker.call("find", {"input": 99, "out_file": out})
        with pytest.raises(NoDevice, match="there is no sound input"):
            await rig.start(None, input="no-such-microphone", out_file=out)
        assert not Path(out).exists(), "nothing is written when the other end fails"
        with pytest.raises(NoTalk):
            await rig.worker.call("stop")
        with ParrotPeer() as peer:
            await rig.start(peer, **files)
            with pytest.raises(TalkBusy):
                await rig.start(None, **files)
            stats = await rig.worker.call("stop")
    assert stats["session"] == "s1"
    assert (await rig.wait_for("ended"))["reason"] == "stopped"


@pytest.mark.asyncio
async def test_an_output_whose_end_finds_no_room_fails_the_talk(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("limits another process")
    files = {"in_file": str(make_speech(tmp_path / "in.wav")), "out_file": str(tmp_path / "o.flac")}
    async with audio_worker(tmp_path) as rig:
        await rig.start(None, **files, fast=True)
        await rig.wait_for("ended")
        size = Path(files["out_file"]).stat().st_size
        resource.prlimit(rig.worker.pid, resource.RLIMIT_FSIZE, (size - 1, size - 1))
        await rig.start(None, **files, fast=True, session="s2")
        await rig.wait_for("ended", lambda ended: ended["stats"]["session"] == "s2")
        failed = await rig.wait_for("state", lambda state: state["state"] == "failed")
        assert failed["error"]["kind"] == "audio.bad_file"
        await rig.start(None, **files, session="s3", fast=False)
        await rig.wait_for("level", lambda level: level["frame"] == 3)
        resource.prlimit(rig.worker.pid, resource.RLIMIT_FSIZE, (43, 43))
        with pytest.raises(BadAudioFile, match="File too large"):
            await rig.worker.call("stop")


@pytest.mark.asyncio
async def test_the_model_dies_and_another_takes_over(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    out = tmp_path / "out.wav"
    async with audio_worker(tmp_path) as rig:
        await rig.prepare()
        first, second = ParrotPeer(), ParrotPeer()
        await rig.start(first, in_file=str(speech), out_file=str(out), seconds=2.4)
        await rig.wait_for("level", lambda level: level["frame"] >= 8)
        first.close()
        await rig.wait_for("level", lambda level: level["frame"] >= 14)
        await rig.worker.call("rejoin", {"epoch": 2}, fds=[second.theirs.fileno()])
        second.theirs.close()
        ended = await rig.wait_for("ended")
        second.close()
    assert ended["reason"] == "seconds"
    assert {f.epoch for f in second.heard} == {2}
    assert 2 <= ended["stats"]["lagged_frames"] <= 8
    assert len(soundfile.read(out)[0]) == 34 * FRAME


@pytest.mark.asyncio
async def test_a_killed_worker_is_noticed(tmp_path: Path) -> None:
    async with audio_worker(tmp_path) as rig:
        rig.worker._signal(signal.SIGKILL)
        assert await rig.worker.exited == -signal.SIGKILL


@pytest.mark.asyncio
async def test_a_talk_that_is_refused_leaves_the_file_of_an_earlier_one(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    out, new = tmp_path / "out.wav", tmp_path / "new.wav"
    out.write_bytes(old := speech.read_bytes())
    record = {"path": str(speech / "in" / "a-file.wav")}
    async with audio_worker(tmp_path) as rig:
        for path in (out, new):
            with pytest.raises(RecordingFailed):
                await rig.start(
                    None, in_file=str(speech), out_file=str(path), fast=True, record=record
                )
    assert out.read_bytes() == old
    assert not new.exists()
