"""Both codecs for real: the demo's small Mimi, and a full-size one with random weights."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshid.audio.codec import Codec, open_codec
from moshid.audio.codec_mlx import _count_afresh, _mimi_config
from moshid.audio.codec_process import CodecProcess
from moshid.audio.codec_rusty import RustyMimi
from moshid.audio.codec_spares import Life
from moshid.audio.frames import FRAME_SAMPLES, HALF_SAMPLES, SAMPLE_RATE, level_dbfs, silence
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from moshid.audio.seanet import Stack, speed_up
from moshid.demo.lags import envelope_lag
from moshid.errors import BadCheckpoint, CodecDied
from tests.fakes.audio_rig import DEMO_CODEC, make_speech
from tests.fakes.mimi_weights import write_mimi

SILENCE_CODES = (1142, 1447, 1987, 472, 580, 1061, 1021, 1032)


def demo(**changes: Any) -> CodecSpec:
    return parse(DEMO_CODEC | changes, CodecSpec)


def frames_of(pcm: Samples) -> list[Samples]:
    whole = pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].astype(np.float32)
    return list(whole.reshape(-1, FRAME_SAMPLES))


def noise(frames: int, seed: int = 0) -> list[Samples]:
    shape = (frames, FRAME_SAMPLES)
    return list((0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


def encode_all(codec: Codec, frames: list[Samples]) -> list[tuple[int, ...]]:
    codec.reset()
    return [codec.encode(pcm) for pcm in frames]


def test_speech_survives_the_demo_codec(tmp_path: Path) -> None:
    speech = soundfile.read(make_speech(tmp_path / "a.wav"), dtype="float32")[0]
    codec = open_codec(demo())
    heard = np.concatenate([codec.decode(codec.encode(pcm)) for pcm in frames_of(speech)])
    assert heard.dtype == np.float32
    lag_s, correlation = envelope_lag(speech, heard, SAMPLE_RATE)
    assert lag_s <= 0.02
    assert correlation > 0.75


def test_the_demo_codec_knows_silence_and_forgets_on_reset() -> None:
    codec = open_codec(demo())
    assert [codec.encode(silence()) for _ in range(60)][-1] == SILENCE_CODES
    assert level_dbfs(codec.decode(SILENCE_CODES)) < -60
    first = encode_all(codec, noise(5))
    assert encode_all(codec, noise(5)) == first


def test_rotating_caches_give_the_codes_of_growing_ones() -> None:
    import mlx.core as mx

    frames = noise(200)
    codec: Any = open_codec(demo())
    ours = encode_all(codec, frames)
    mimi = codec._mimi
    mimi.encoder_cache = mimi.encoder_transformer.make_cache()
    mimi.reset_all()
    plain = [np.asarray(mimi.encode_step(mx.array(pcm)[None, None]))[0, :, 0] for pcm in frames]
    assert ours == [tuple(codes.tolist()) for codes in plain]


def test_numpys_products_give_what_convolutions_in_mlx_do() -> None:
    import mlx.core as mx
    from moshi_mlx.models.mimi import Mimi

    codec: Any = open_codec(demo())
    assert isinstance(codec._mimi.encoder, Stack)
    assert isinstance(codec._mimi.decoder, Stack)
    plain = Mimi(codec._mimi.cfg)
    plain.load_pytorch_weights(DEMO_CODEC["weights"], strict=True)
    for pcm in noise(20):
        codes = np.asarray(plain.encode_step(mx.array(pcm)[None, None]))
        tokens = tuple(codes[0, :, 0].tolist())
        assert codec.encode(pcm) == tokens
        expected = np.asarray(plain.decode_step(mx.array(codes)))[0, 0]
        assert np.abs(codec.decode(tokens) - expected).max() < 1e-5


@pytest.mark.parametrize("changes", [{"true_skip": False}, {"nresidual_layers": 2}])
def test_a_mimi_of_another_shape_gives_what_mlx_does_too(changes: dict[str, Any]) -> None:
    """With shortcuts; with dilation, which stays MLX's."""
    import mlx.core as mx
    from moshi_mlx.models.mimi import Mimi

    numbers = json.loads(Path(str(DEMO_CODEC["config"])).read_text())
    numbers["seanet"] |= changes
    plain = Mimi(_mimi_config(numbers))
    faster = Mimi(_mimi_config(numbers))
    faster.update(plain.parameters())
    speed_up(faster)
    assert isinstance(faster.encoder, Stack) == ("true_skip" in changes)
    for pcm in noise(3):
        sound = mx.array(pcm)[None, None]
        steps = [np.asarray(mimi.encoder.step(sound)) for mimi in (plain, faster)]
        assert np.allclose(steps[0], steps[1], atol=1e-5)
        heard = [np.asarray(m.decoder.step(mx.array(steps[0]))) for m in (plain, faster)]
        assert np.allclose(heard[0], heard[1], atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "/nowhere/weights.safetensors"},
        {"config": "/nowhere/config.json"},
        {"config": None},
        {"codebooks": 16},
        {"config": DEMO_CODEC["weights"]},
        {"weights": DEMO_CODEC["config"]},
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpoint):
        open_codec(demo(**changes))


def test_a_configuration_of_other_sizes_is_refused(tmp_path: Path) -> None:
    numbers = json.loads(Path(str(DEMO_CODEC["config"])).read_text())
    numbers["seanet"]["nfilters"] = 24
    path = tmp_path / "config.json"
    path.write_text(json.dumps(numbers))
    with pytest.raises(BadCheckpoint):
        open_codec(demo(config=str(path)))


def test_counting_positions_from_later_on_changes_nothing() -> None:
    frames = noise(90)
    plain: Any = open_codec(demo())
    codes = encode_all(plain, frames)
    turned: Any = open_codec(demo())
    offsets = []
    for pcm, expected in zip(frames, codes, strict=True):
        assert turned.encode(pcm) == expected
        _count_afresh(turned._mimi.encoder_transformer, turned._mimi.encoder_cache, rebase=64)
        offsets.append(turned._mimi.encoder_cache[0].self_attn.offset)
    assert plain._mimi.encoder_cache[0].self_attn.offset == 180
    assert max(offsets) < 64 + 64 + 2, "it was counted afresh, more than once"


def test_a_primed_codec_goes_on_where_another_left(tmp_path: Path) -> None:
    """Two layers that attend to 16 frames each: after one context most codes are the same, after
    four all are; the sound differs by -20 dB at most, and by -60 dB."""
    text = "The quick brown fox jumps over the lazy dog. How are you today, my friend? " * 2
    speech = soundfile.read(make_speech(tmp_path / "a.wav", text=text), dtype="float32")[0]
    frames = frames_of(speech)[:78]
    codec = open_codec(demo())
    codes = encode_all(codec, frames)
    sound = [codec.decode(tokens) for tokens in codes]
    seam = 66
    for primed, equal, difference_db in ((16, 0.95, -20), (64, 1.0, -60)):
        codec.reset()
        same, differences_db = [], []
        for pcm, tokens, whole in list(zip(frames, codes, sound, strict=True))[seam - primed :]:
            same.append(np.equal(codec.encode(pcm), tokens))
            swapped = codec.decode(tokens)
            differences_db.append(level_dbfs(swapped - whole) - level_dbfs(whole))
        assert np.mean(same[primed:]) >= equal
        assert max(differences_db[primed:]) < difference_db


@pytest.fixture(scope="module")
def mimi(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A full-size Mimi."""
    return str(write_mimi(tmp_path_factory.mktemp("mimi") / "mimi.safetensors"))


def test_rustymimi_says_what_mlx_says_of_the_same_weights(mimi: str) -> None:
    import mlx.core as mx
    from moshi_mlx.models.mimi import Mimi, mimi_202407

    frames = noise(12)
    with closing(open_codec(CodecSpec("rustymimi", mimi, 8))) as codec:
        codes = encode_all(codec, frames)
        sound = codec.decode(codes[0])
    assert sound.shape == (FRAME_SAMPLES,)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() > 0

    other = Mimi(mimi_202407(8))
    other.load_pytorch_weights(mimi)
    mlx_codes = [np.asarray(other.encode_step(mx.array(p)[None, None]))[0, :, 0] for p in frames]
    # The first frame differs, since the two pad a beginning differently.
    agree = [tuple(b.tolist()) == a for a, b in zip(codes, mlx_codes, strict=True)][1:]
    assert np.mean(agree) > 0.8


def test_rustymimi_outlives_its_table_and_its_process(mimi: str) -> None:
    """Swapped twice, between two frames: codes and sound are those of one object that hears it all,
    but for what was said before the 8 frames that the spare has heard. Then the process is killed,
    and the talk goes on."""
    import rustymimi

    frames = noise(34)
    whole = rustymimi.Tokenizer(mimi, num_codebooks=8)
    same, differences_db = [], []
    with closing(RustyMimi(mimi, 8, life=Life(frames_max=24, begin=12, primed=8))) as codec:
        for pcm in frames:
            codes = np.asarray(whole.encode_step(pcm[None, None]))
            sound = np.asarray(whole.decode_step(codes))[0, 0]
            tokens = tuple(codes[0, :, 0].tolist())
            same.append(np.equal(codec.encode(pcm), tokens))
            ours = codec.decode(tokens)
            differences_db.append(level_dbfs(ours - sound) - level_dbfs(sound))
        assert codec.spares.swaps == 2
        assert np.all(same[:20])
        assert np.mean(same) > 0.95
        assert max(differences_db) < -30, "after a fresh object it would be 0"

        assert isinstance(codec.spares.active, CodecProcess)
        os.kill(codec.spares.active.pid, signal.SIGKILL)
        assert len(codec.encode(frames[0])) == 8
        assert codec.spares.deaths == 1


def test_halves_give_the_codes_of_whole_frames(mimi: str, tmp_path: Path) -> None:
    """Both codecs, and what is decoded in between does no harm."""
    speech = soundfile.read(make_speech(tmp_path / "a.wav"), dtype="float32")[0]
    for spec, frames in ((demo(), frames_of(speech)), (CodecSpec("rustymimi", mimi, 8), noise(10))):
        with closing(open_codec(spec)) as codec:
            codes = encode_all(codec, frames)
            codec.reset()
            halved = []
            for pcm in frames:
                codec.begin(pcm[:HALF_SAMPLES])
                codec.decode(codes[0])
                halved.append(codec.encode(pcm[HALF_SAMPLES:]))
            # Sums of other lengths round otherwise, and one code that flips takes others along.
            assert np.mean(np.equal(halved, codes)) >= 0.95, spec.kind
            codec.begin(frames[0][:HALF_SAMPLES])
            assert encode_all(codec, frames) == codes, "a reset forgets the half, too"


def test_a_process_killed_with_half_a_frame_leaves_it_to_its_successor(mimi: str) -> None:
    frames = noise(20)
    with closing(RustyMimi(mimi, 8, life=Life(frames_max=64, begin=4, primed=40))) as codec:
        for pcm in frames[:-1]:
            tokens = codec.encode(pcm)
            codec.decode(tokens)
        assert isinstance(codec.spares.active, CodecProcess)
        codec.begin(frames[-1][:HALF_SAMPLES])
        os.kill(codec.spares.active.pid, signal.SIGKILL)
        tokens = codec.encode(frames[-1][HALF_SAMPLES:])
        assert codec.spares.deaths == 1
    with closing(open_codec(CodecSpec("rustymimi", mimi, 8))) as whole:
        assert np.mean(np.equal(encode_all(whole, frames[4:])[-1], tokens)) >= 0.7, "8 codes"


def test_a_process_that_hangs_counts_as_dead(mimi: str) -> None:
    codec = CodecProcess(mimi, 8, 64, answer_timeout_s=0.2)
    codec.hurry()
    codec.catch_up()
    assert codec.is_level()
    os.kill(codec.pid, signal.SIGSTOP)
    with pytest.raises(CodecDied, match="does not answer"):
        codec.encode(silence())
    codec.close()
    codec.wait()
    assert codec.has_ended()


def test_its_process_ends_with_the_worker_however_that_went(mimi: str) -> None:
    codec = CodecProcess(mimi, 8, 64)
    codec.catch_up()
    codec._sock.close()  # as the system does it
    codec.wait()
    assert codec._process.returncode == 0, "by itself"


def test_a_codec_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint) as caught:
        open_codec(CodecSpec("rustymimi", str(tmp_path / "none"), 8))
    assert "\n" not in caught.value.message
