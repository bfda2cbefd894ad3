"""The demo model under plain moshi_mlx: what goes in comes back, two step calls later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
import pytest
import sentencepiece
import soundfile
from moshi_mlx import models, utils
from moshi_mlx.models.mimi import Mimi, MimiConfig
from moshi_mlx.modules import SeanetConfig, TransformerConfig

from moshid.demo import checkpoint, parrot

FRAMES = 40
SAMPLERS = {
    "greedy": (utils.Sampler(temp=0.0), utils.Sampler(temp=0.0)),
    "top_k": (utils.Sampler(top_k=25, temp=0.8), utils.Sampler(top_k=250, temp=0.8)),
    "top_p": (utils.Sampler(), utils.Sampler()),
}
GROUPS = {"q8": 64, "q4": 32}


@pytest.fixture(scope="module", params=["bf16", "q8", "q4"])
def lm(request: pytest.FixtureRequest, demo_checkpoint: Path) -> Any:
    config = json.loads((demo_checkpoint / "config.json").read_text())
    model = models.Lm(models.LmConfig.from_config_dict(config))
    model.set_dtype(mx.bfloat16)
    model.load_weights(str(demo_checkpoint / config["moshi_name"]), strict=True)
    if request.param != "bf16":
        nn.quantize(model, bits=int(request.param[1]), group_size=GROUPS[request.param])
    model.warmup()
    return model


def talk(
    model: Any, samplers: tuple[Any, Any], codes: npt.NDArray[np.int32]
) -> tuple[list[list[int] | None], list[int]]:
    """Feed ``codes`` [frames, 8] to LmGen; audio tokens (or None) and text token of each step."""
    for cache in model.transformer_cache:
        cache.reset()
    text_sampler, audio_sampler = samplers
    gen = models.LmGen(model, len(codes), text_sampler, audio_sampler)
    audio: list[list[int] | None] = []
    text: list[int] = []
    for frame in codes:
        text.append(int(gen.step(mx.array(frame)[None])[0].item()))
        tokens = gen.last_audio_tokens()
        audio.append(None if tokens is None else tokens[0].tolist())
    return audio, text


@pytest.mark.parametrize("samplers", SAMPLERS.values(), ids=SAMPLERS)
def test_every_token_comes_back_two_steps_later(lm: Any, samplers: tuple[Any, Any]) -> None:
    mx.random.seed(1)
    codes = np.random.default_rng(7).integers(0, 2048, (FRAMES, 8)).astype(np.int32)
    audio, _text = talk(lm, samplers, codes)
    assert audio[0] is None
    assert audio[1] == list(parrot.SILENCE_CODES), "the first frame is silence, not noise"
    assert audio[2:] == codes[:-2].tolist()


def test_babbles_readably_now_and_then(lm: Any, demo_checkpoint: Path) -> None:
    codes = np.random.default_rng(8).integers(0, 2048, (FRAMES, 8)).astype(np.int32)
    said = list(parrot.syllable_tokens().items())[:3]
    quiet = np.tile(np.array(parrot.SILENCE_CODES, np.int32), (8, 1))
    for i, (audio_token, _text_token) in enumerate(said):
        codes[5 * i, 0] = audio_token
    _audio, text = talk(lm, SAMPLERS["top_k"], np.concatenate([codes, quiet]))
    assert [text[5 * i + 1] for i in range(3)] == [t for _a, t in said], (
        "one step after it is heard"
    )
    assert set(text[-6:]) == {3}, "silence is padding"
    assert text.count(3) > len(text) // 2
    spm = sentencepiece.SentencePieceProcessor(str(demo_checkpoint / checkpoint.TOKENIZER_NAME))
    assert all(spm.id_to_piece(t).replace("▁", "").isalpha() for t in text if t not in (0, 3))


def test_the_codec_runs_under_plain_mimi(demo_checkpoint: Path) -> None:
    numbers = json.loads((demo_checkpoint / "mimi_config.json").read_text())
    mimi = Mimi(
        MimiConfig(
            seanet=SeanetConfig(**numbers["seanet"]),
            transformer=TransformerConfig(**numbers["transformer"]),
            **numbers["mimi"],
        )
    )
    mimi.load_pytorch_weights(str(demo_checkpoint / "demo-codec.safetensors"), strict=True)
    mimi.reset_all()
    speech, _rate = soundfile.read(checkpoint.speech_wav(), dtype="float32")
    silence = np.zeros(32 * 1920, np.float32)
    pcm = np.concatenate([speech[: 40 * 1920], silence])
    out, codes = [], []
    for frame in pcm.reshape(-1, 1, 1, 1920):
        tokens = mimi.encode_step(mx.array(frame))
        codes.append(np.array(tokens)[0, :, 0].tolist())
        out.append(np.array(mimi.decode_step(tokens))[0, 0])
    level = [float(np.sqrt(np.mean(f**2))) for f in out]
    assert tuple(codes[-1]) == parrot.SILENCE_CODES
    assert max(level) > 0.01, "speech is heard"
    assert level[-1] < 1e-4, "silence stays silent"
