"""The attended window is exact for ever: against full attention, recomputed."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from moshid.model import window
from moshid.model.finish import Finish
from moshid.model.trunk import Trunk
from tests.fakes import small_models

CONTEXT = 3000
STEPS = (4500, 5500, 9500)
"""Upstream's ring of 4,096 turns before the first, and has turned twice at the last."""


def small_lm(context: int) -> Any:
    numbers = small_models.config(
        dim=32, num_heads=1, n_q=2, dep_q=1, delays=[0, 0, 0], context=context
    )
    lm = small_models.random_lm(numbers)
    lm.set_dtype(mx.float32)
    return lm


def streams(lm: Any, steps: int) -> npt.NDArray[np.int32]:
    """Random tokens, int32 [steps, 1 + codebooks], the text's first."""
    rng = np.random.default_rng(7)
    text = rng.integers(0, lm.cfg.text_out_vocab_size, (steps, 1))
    audio = rng.integers(0, lm.cfg.audio_vocab_size, (steps, lm.cfg.audio_codebooks))
    return np.concatenate([text, audio], axis=1).astype(np.int32)


def by_steps(lm: Any, tokens: npt.NDArray[np.int32]) -> dict[int, mx.array]:
    """Text logits after each of ``STEPS``, by the code that talks run."""
    trunk = Trunk(lm, None, lambda stage: stage, wide=False)
    finish = Finish(lm, trunk, wide=False)
    windows = trunk.windows()
    logits = {}
    for step, (text, *audio) in enumerate(tokens.tolist(), start=1):
        x, attended = trunk(text, audio, windows)
        mx.eval(x, attended)
        if step in STEPS:
            logits[step] = finish.head(x, attended)[1][0]
    return logits


def by_full_attention(lm: Any, tokens: npt.NDArray[np.int32]) -> dict[int, mx.array]:
    """The same by upstream's modules over the whole sequence at once, and a mask."""
    ids = mx.array(tokens)[None]
    x = lm.text_emb(ids[:, :, 0])
    for index, embedding in enumerate(lm.audio_embs, start=1):
        x = x + embedding(ids[:, :, index])
    for layer in lm.transformer.layers:
        x = x + attention(layer.self_attn, layer.norm1(x), lm.cfg.transformer.context)
        x = x + layer.gating(layer.norm2(x))
        mx.eval(x)
    logits = lm.text_linear(lm.out_norm(x))[0]
    return {step: logits[step - 1] for step in STEPS}


def attention(module: Any, x: mx.array, context: int, chunk: int = 500) -> mx.array:
    """Each position attends to itself and the ``context`` before it. ``x``: [1, time, dim]."""
    time, heads, dim = x.shape[1], module.cfg.num_heads, module.cfg.head_dim
    qkv = module.in_proj(x).reshape(1, time, 3, heads, dim).transpose(2, 0, 3, 1, 4)
    queries, keys = module.rope(qkv[0]), module.rope(qkv[1])
    outs = []
    for start in range(0, time, chunk):
        stop, first = min(time, start + chunk), max(0, start - context)
        age = mx.arange(start, stop)[:, None] - mx.arange(first, stop)[None]
        mask = mx.where((age >= 0) & (age <= context), 0.0, -mx.inf)
        scores = queries[:, :, start:stop] @ keys[:, :, first:stop].swapaxes(-1, -2)
        weights = mx.softmax(scores * module.scale + mask, axis=-1)
        outs.append(weights @ qkv[2][:, :, first:stop])
        mx.eval(outs[-1])
    attended = mx.concatenate(outs, axis=2).transpose(0, 2, 1, 3).reshape(1, time, -1)
    out: mx.array = module.out_proj(attended)
    return out


def difference(one: mx.array, other: mx.array) -> float:
    return float((mx.abs(one - other).max() / mx.abs(other).max()).item())


@pytest.mark.timeout(280)  # 9,500 frames of a small model, beside everything else
def test_logits_are_those_of_full_attention_after_thousands_of_steps() -> None:
    lm = small_lm(CONTEXT)
    tokens = streams(lm, max(STEPS))
    ours, reference = by_steps(lm, tokens), by_full_attention(lm, tokens)
    shorter = small_lm(CONTEXT - 1)
    other = by_full_attention(shorter, tokens)
    for step in STEPS:
        assert difference(ours[step], reference[step]) < 1e-5
        assert difference(other[step], reference[step]) > 1e-5, "one position makes a difference"


@pytest.mark.parametrize("rebase", [1 << 16, 120, 60], ids=["", "rebased", "rebased_often"])
def test_upstreams_ring_is_the_counterexample(rebase: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a ring of 40 and a context of 24, as with 4,096 and 3,000."""
    monkeypatch.setattr(window, "REBASE", rebase)
    lm = small_models.random_lm(small_models.config(context=24))
    lm.set_dtype(mx.float32)
    lm.transformer.cfg.max_seq_len = 40
    unbounded, ring = lm.transformer.make_cache(), lm.transformer.make_rot_cache()
    trunk = Trunk(lm, None, lambda stage: stage, wide=False)
    windows = trunk.windows()
    worst = {"ours": 0.0, "upstream": 0.0}
    for text, *audio in streams(lm, 400).tolist():
        x = lm.text_emb(mx.array([[text]]))
        for token, embedding in zip(audio, lm.audio_embs, strict=True):
            x = x + embedding(mx.array([[token]]))
        reference = lm.out_norm(lm.transformer(x, cache=unbounded))[0]
        upstream = lm.out_norm(lm.transformer(x, cache=ring))[0]
        ours = trunk.behind(*trunk(text, audio, windows))
        worst["ours"] = max(worst["ours"], difference(ours, reference))
        worst["upstream"] = max(worst["upstream"], difference(upstream, reference))
    assert worst["ours"] < (1e-5 if rebase > 1000 else 1e-3), "turning back rounds once more"
    assert worst["upstream"] > 1e-2, "this test can see the seam"
    assert windows.position == {1 << 16: 400, 120: 100, 60: 50}[rebase]


def test_a_window_holds_no_more_than_its_size() -> None:
    ring = window.Window(300)
    entry = mx.ones((1, 2, 1, 8))
    for position in range(1000):
        mx.eval(ring.attend(position, [entry, entry, entry], 1.0))
    assert [array.shape for array in ring._ring] == [(1, 2, 300, 8)] * 2


def lengths(windows: window.Windows) -> list[int]:
    return [ring._ring[0].shape[2] if ring._ring else 0 for ring in windows]


@pytest.mark.parametrize("size", [20, 33, 300])
def test_layers_grow_one_after_the_other_and_attend_as_if_they_did_not(size: int) -> None:
    """A frame that copied all layers' rings would be late."""
    layers = 32
    windows = window.Windows([lambda keys, _back: keys] * layers, size)
    alone = window.Window(size)
    mx.random.seed(5)
    grown: list[int] = []
    for position in range(310):
        before = lengths(windows)
        query, key, value = mx.random.normal((3, 1, 2, 1, 8))
        outs = [w.attend(position, [query, key, value], 0.3) for w in windows]
        reference = alone.attend(position, [query, key, value], 0.3)
        mx.eval(outs, reference)
        assert all(bool(mx.array_equal(out, reference)) for out in outs)
        after = lengths(windows)
        assert min(after) > min(position, size - 1)
        assert max(after) <= min(size, max(window.FIRST, position + window.FIRST + window.GROWTH))
        grown.append(sum(a != b for a, b in zip(after, before, strict=True)))
    assert grown[0] == layers
    assert max(grown[1:]) <= 1
    assert lengths(windows) == [size] * layers


def test_more_layers_than_first_positions_grow_in_time() -> None:
    windows = window.Windows([lambda keys, _back: keys] * 70, 100)
    entry = mx.ones((1, 1, 1, 4))
    for position in range(120):
        mx.eval([w.attend(position, [entry, entry, entry], 1.0) for w in windows])
        assert min(lengths(windows)) > min(position, 99)
    assert lengths(windows) == [100] * 70
