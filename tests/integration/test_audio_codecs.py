"""Both codecs for real: the demo's small Mimi, and a full-size one with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshid.audio.codec import Codec, open_codec
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, level_dbfs, silence
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from moshid.demo.sound import envelope_lag
from moshid.errors import BadCheckpoint
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


def test_matrix_products_give_the_sound_of_transposed_convolutions() -> None:
    import mlx.core as mx
    from moshi_mlx.models.mimi import Mimi

    codec: Any = open_codec(demo())
    plain = Mimi(codec._mimi.cfg)
    plain.load_pytorch_weights(DEMO_CODEC["weights"], strict=True)
    for tokens in encode_all(codec, noise(12)):
        expected = plain.decode_step(mx.array(tokens, dtype=mx.uint32)[None, :, None])
        assert np.abs(codec.decode(tokens) - np.asarray(expected)[0, 0]).max() < 1e-5


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


def test_rustymimi_runs_a_full_size_codec_past_its_position_limit(tmp_path: Path) -> None:
    """Codes equal MLX's of the same weights; and at its limit the codec is replaced, not lost."""
    import mlx.core as mx
    from moshi_mlx.models.mimi import Mimi, mimi_202407

    from moshid.audio.codec_rusty import RustyMimi

    weights = str(write_mimi(tmp_path / "mimi.safetensors"))
    frames = noise(24)
    codec = open_codec(CodecSpec("rustymimi", weights, 8))
    codes = encode_all(codec, frames)
    sound = codec.decode(codes[0])
    assert sound.shape == (FRAME_SAMPLES,)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() > 0

    mimi = Mimi(mimi_202407(8))
    mimi.load_pytorch_weights(weights)
    mlx_codes = [np.asarray(mimi.encode_step(mx.array(p)[None, None]))[0, :, 0] for p in frames]
    # The first frame differs, since the two pad a beginning differently.
    agree = [tuple(b.tolist()) == a for a, b in zip(codes, mlx_codes, strict=True)][1:]
    assert np.mean(agree) > 0.8

    short = RustyMimi(weights, 8, frames_max=16)
    replaced = [short.encode(pcm) for pcm in frames]
    assert replaced[:16] == codes[:16]
    assert np.mean([a == b for a, b in zip(replaced[17:], codes[17:], strict=True)]) > 0.7
    assert [len(short.decode(tokens)) for tokens in codes] == [FRAME_SAMPLES] * 24

    with pytest.raises(BadCheckpoint) as caught:
        open_codec(CodecSpec("rustymimi", str(tmp_path / "none"), 8))
    assert "\n" not in caught.value.message
