"""What a model weighs, what a step reads of it, and the limits that follow for Metal."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid.model import metal
from moshid.model.footprint import (
    FREE_BUFFERS_BYTES_MAX,
    WORKING_BYTES,
    Footprint,
    is_embedding,
    metal_limits,
    of_model,
)
from tests.fakes import small_models

GB = 10**9


def test_the_released_model_comes_to_the_known_figures() -> None:
    """Shapes only, nothing is computed: 15.4 GB of weights, 524,288 bytes of cache a frame."""
    lm: Any = models.Lm(models.config_v0_1())
    lm.set_dtype(mx.bfloat16)
    sizes = {name: w.nbytes for name, w in tree_flatten(lm.parameters())}
    found = of_model(sizes, lm.cfg.transformer, 2)
    assert found.weights_bytes == 15_375_630_336
    assert found.kv_position_bytes == 524_288
    per_second = found.read_bytes(found.context) / 0.08
    assert per_second == pytest.approx(204e9, rel=0.01), "the bandwidth floor of facts.md"


def test_embedding_tables_are_not_read_and_everything_else_is() -> None:
    lm = small_models.random_lm(small_models.config())
    sizes = {name: w.nbytes for name, w in tree_flatten(lm.parameters())}
    found = of_model(sizes, lm.cfg.transformer, 2)
    tables = {name for name in sizes if is_embedding(name)}
    assert {"text_emb.weight", "audio_embs.3.weight", "depformer.slices.0.emb.weight"} <= tables
    assert not {name for name in tables if "linear" in name or "transformer" in name}
    assert found.step_bytes == found.weights_bytes - sum(sizes[name] for name in tables)


def test_a_full_cache_grows_no_more() -> None:
    found = Footprint(1000, 900, 10, 50)
    assert [found.read_bytes(n) for n in (0, 1, 50, 51)] == [900, 910, 1400, 1400]
    assert found.kv_full_bytes == 500


def test_no_more_is_wired_than_needed_nor_than_recommended() -> None:
    model = Footprint(5 * GB, 5 * GB, 524_288, 3000)
    needed = 5 * GB + 3000 * 524_288 + WORKING_BYTES
    assert metal_limits(model, 48 * GB).wired_bytes == needed
    assert metal_limits(model, 6 * GB).wired_bytes == 6 * GB
    assert metal_limits(model, 48 * GB).cache_bytes == FREE_BUFFERS_BYTES_MAX
    assert metal_limits(model, GB).cache_bytes == GB // 16


@pytest.mark.skipif(mx.metal.is_available(), reason="this machine has Metal")
def test_without_metal_nothing_is_set() -> None:
    assert metal.apply(Footprint(1, 1, 1, 1)) is None


def test_names_are_told_by_their_last_part() -> None:
    assert not is_embedding("text_linear.weight")
    assert not is_embedding("transformer.layers.0.self_attn.in_proj.weight")
    assert is_embedding("text_emb.scales")
