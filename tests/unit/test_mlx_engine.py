"""Loading checkpoints: every quality, and what is said about each kind of bad file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid.demo import tokenizer
from moshid.errors import BadCheckpoint, ModelOutOfMemory, NotFinite
from moshid.model import memory, mlx_engine, quantise, safetensors_header
from moshid.model.compare import step_bytes
from moshid.model.engine import Sampling
from moshid.model.graph import metered
from moshid.model.load_progress import Advance
from moshid.model.mlx_engine import MlxEngine
from tests.fakes import small_models

GREEDY = Sampling(0.0, 0, 0.0, 0)
NUMBERS = small_models.config()


def ignore(_advance: Advance) -> None:
    """No progress wanted."""


def load(folder: Path, quality: str = "bf16", name: str = "model.safetensors") -> MlxEngine:
    return mlx_engine.load(
        folder / "config.json",
        folder / name,
        folder / NUMBERS["tokenizer_name"],
        quality,
        ignore,
    )


def tokens_of(engine: MlxEngine) -> list[tuple[int, ...]]:
    engine.begin(1, GREEDY)
    return [engine.step([i, i, i, i]).tokens for i in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_models.write_checkpoint(tmp_path / "model")


def test_loads_bf16_with_its_facts_and_progress(folder: Path) -> None:
    seen: list[Advance] = []
    engine = mlx_engine.load(
        folder / "config.json",
        folder / "model.safetensors",
        folder / NUMBERS["tokenizer_name"],
        "bf16",
        seen.append,
    )
    facts = engine.facts
    assert (facts.codebooks_user, facts.codebooks_model, facts.delay_frames) == (4, 4, 2)
    assert (facts.takes, facts.text_vocab, facts.quality) == ("tokens", 300, "bf16")
    assert {a.stage for a in seen} == {"reading"}
    assert [a.fraction for a in seen] == sorted(a.fraction for a in seen)
    assert [a.layers_done for a in seen] == sorted(a.layers_done for a in seen)
    size_bytes = safetensors_header.read(folder / "model.safetensors").data_bytes
    layers = 2 + 8 + 4 + 3  # transformer, embeddings, slices; out_norm, text_emb, text_linear
    assert seen[-1] == Advance("reading", size_bytes, size_bytes, layers, layers)


@pytest.mark.parametrize(("quality", "bits", "group"), [("q8", 8, 64), ("q4", 4, 32)])
def test_quantised_at_load_equals_quantised_beforehand(
    folder: Path, quality: str, bits: int, group: int
) -> None:
    lm = small_models.random_lm(NUMBERS)
    nn.quantize(lm, bits=bits, group_size=group)
    name = f"model.{quality}.safetensors"
    mx.save_safetensors(str(folder / name), dict(tree_flatten(lm.parameters())))
    at_load = tokens_of(load(folder, quality))
    assert at_load == tokens_of(load(folder, quality, name))
    assert at_load != tokens_of(load(folder)), "quantising changes something"


@pytest.mark.parametrize(
    ("quality", "on_cpu", "dtype"),
    [("q4", True, mx.float32), ("q4", False, mx.bfloat16), ("bf16", True, mx.bfloat16)],
)
def test_quantised_models_compute_in_float32_on_a_cpu_only(
    quality: str, on_cpu: bool, dtype: mx.Dtype
) -> None:
    lm = small_models.random_lm(NUMBERS)
    quantise.quantise_modules(lm, quality)
    quantise.suit_device(lm, quality, on_cpu=on_cpu)
    assert {w.dtype for _, w in tree_flatten(lm.parameters())} - {mx.uint32} == {dtype}


@pytest.mark.parametrize(
    ("quality", "size_bytes"),
    [("bf16", 15_375_630_336), ("q8", 8_168_645_376), ("q4", 4_805_385_728)],
)
def test_v0_1_has_the_size_of_kyutais_checkpoints(quality: str, size_bytes: int) -> None:
    """Lazily: no weight is computed."""
    lm = models.Lm(models.config_v0_1())
    lm.set_dtype(mx.bfloat16)
    quantise.quantise_modules(lm, quality)
    assert sum(w.nbytes for _, w in tree_flatten(lm.parameters())) == size_bytes


def test_without_config_the_architecture_is_v0_1(folder: Path) -> None:
    spm = folder / "spm32k.model"
    spm.write_bytes(tokenizer.build(32000))
    with pytest.raises(BadCheckpoint, match=r"does not hold this model's parameters.*lacks"):
        mlx_engine.load(None, folder / "model.safetensors", spm, "bf16", ignore)


def test_pieces_and_padding(folder: Path) -> None:
    engine = load(folder)
    assert engine.piece(0) is None
    assert engine.piece(3) is None
    assert engine.piece(-1) is None
    assert engine.piece(4) == " ba"


def test_begin_leaves_nothing_of_the_last_session(folder: Path) -> None:
    engine = load(folder)
    first = tokens_of(engine)
    for i in range(9):
        engine.step([i, 1, 2, 3])
    assert tokens_of(engine) == first


def test_the_seed_is_the_sessions(folder: Path) -> None:
    engine = load(folder)
    said = []
    for seed in (1, 2, 1):
        engine.begin(seed, Sampling())
        said.append([engine.step([i, i, i, i]) for i in range(20)])
    assert said[0] == said[2]
    assert said[0] != said[1]


def test_a_heartbeat_is_a_real_step_that_no_session_notices(folder: Path) -> None:
    engine = load(folder)
    alone = tokens_of(engine)
    engine.begin(1, GREEDY)
    said = []
    for i in range(20):
        with metered() as meter:
            ms = engine.heartbeat()
        assert ms > 0
        assert (meter.nodes > 100, meter.waits) == (True, 1)
        said.append(engine.step([i, i, i, i]).tokens)
    assert said == alone


def test_a_conversation_that_is_forgotten_gives_its_memory_back(folder: Path) -> None:
    engine = load(folder)
    engine.begin(1, GREEDY)
    begun_bytes = mx.get_active_memory()
    for _ in range(40):
        engine.step([1, 1, 1, 1])
    assert mx.get_active_memory() > begun_bytes
    engine.forget()
    assert mx.get_active_memory() <= begun_bytes
    assert tokens_of(engine) == tokens_of(load(folder))


def test_weights_that_are_no_numbers_are_said_by_the_first_step(folder: Path) -> None:
    path = folder / NUMBERS["moshi_name"]
    weights = mx.load(str(path))
    weights["out_norm.weight"] = weights["out_norm.weight"] * mx.inf
    mx.save_safetensors(str(path), weights)
    engine = load(folder)
    for step in (engine.warm_up, engine.heartbeat, lambda: engine.step([1, 1, 1, 1])):
        with pytest.raises(NotFinite, match="not finite"):
            step()


def test_compares_with_lmgen_and_the_floor(folder: Path) -> None:
    engine = load(folder)
    said = tokens_of(engine)
    calls: list[int] = []
    figures = engine.compare(20, lambda: calls.append(1))
    assert len(calls) == 20
    assert figures["same_tokens"]
    assert figures["waits"] == {"ours": 1, "lmgen": 13}
    assert figures["nodes"]["ours"] < figures["nodes"]["lmgen"]
    assert figures["ratio"] == pytest.approx(
        figures["ours_ms"]["p50"] / figures["lmgen_ms"]["p50"], abs=1e-3
    )
    assert figures["floor_ms"] == pytest.approx(
        1000 * figures["step_bytes"] / figures["bandwidth_bytes_per_s"], abs=1e-3
    )
    assert json.loads(json.dumps(figures)) == figures
    assert tokens_of(engine) == said


def test_a_comparison_gives_way(folder: Path) -> None:
    engine = load(folder)
    said = tokens_of(engine)

    def wanted() -> None:
        raise InterruptedError("something else")

    with pytest.raises(InterruptedError):
        engine.compare(20, wanted)
    with pytest.raises(ValueError, match="steps are"):
        engine.compare(5)
    assert tokens_of(engine) == said


def test_a_step_reads_all_but_the_embeddings() -> None:
    lm = small_models.random_lm(NUMBERS)
    matrices = 2 * (12.25 * 256 * 256) + 300 * 256  # two layers, the text head
    norms = 2 * 2 * 256 + 256
    part = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 2 * 2 * 64 + 64 * 256 + 64 * 64
    window = 2 * 2 * 256 * 100
    assert step_bytes(lm, 100) == 2 * (matrices + norms + 4 * part + window)


def test_cross_attention_is_said(folder: Path) -> None:
    numbers = small_models.config(cross_attention=True)
    other = small_models.write_checkpoint(folder / "other", numbers)
    with pytest.raises(BadCheckpoint, match="cross attention"):
        load(other)


def test_takes_no_pcm(folder: Path) -> None:
    with pytest.raises(ValueError, match="not PCM"):
        load(folder).step(b"\0" * 7680)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def not_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<!DOCTYPE html>" + b" " * 4000)


def other_tensors(folder: Path) -> None:
    mx.save_safetensors(str(folder / "model.safetensors"), {"something.weight": mx.zeros((2, 2))})


def pytorch_layout(folder: Path) -> None:
    mx.save_safetensors(str(folder / "model.safetensors"), {"out_norm.alpha": mx.zeros((1, 1, 2))})


def other_shapes(folder: Path) -> None:
    config = small_models.config(card=32)
    (folder / "config.json").write_text(json.dumps(config))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / NUMBERS["tokenizer_name"]).unlink()


def broken_tokenizer(folder: Path) -> None:
    (folder / NUMBERS["tokenizer_name"]).write_bytes(b"\xff" * 64)


def small_tokenizer(folder: Path) -> None:
    (folder / NUMBERS["tokenizer_name"]).write_bytes(tokenizer.build(200))


def foreign_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": 12}')


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"dim": ')


def wrong_delays(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(small_models.config(delays=[0, 0, 1])))


BAD: dict[Callable[[Path], None], str] = {
    cut_short: "header says .* cut short or damaged",
    cut_in_header: "cut short",
    not_safetensors: "no safetensors file",
    other_tensors: "has no use for something.weight",
    pytorch_layout: "PyTorch's layout",
    other_shapes: r"has the shape \[64, 64\] where the configuration wants \[32, 64\]",
    no_weights: "No such file",
    no_tokenizer: "text tokenizer is missing",
    broken_tokenizer: "no sentencepiece model",
    small_tokenizer: "200 pieces where the model has 300",
    foreign_config: "no Moshi configuration",
    broken_config: "no JSON",
    wrong_delays: "2 delays for 8 codebooks",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_checkpoint_is_named(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(BadCheckpoint, match=BAD[spoil]):
        load(folder)


def test_a_quantised_file_is_not_bf16(folder: Path) -> None:
    lm = small_models.random_lm(NUMBERS)
    nn.quantize(lm, bits=4, group_size=32)
    path = folder / "model.safetensors"
    mx.save_safetensors(str(path), dict(tree_flatten(lm.parameters())))
    with pytest.raises(BadCheckpoint, match="is quantised, and cannot be loaded as bf16"):
        load(folder)


def test_a_width_that_no_group_divides_is_said(folder: Path) -> None:
    odd = small_models.write_checkpoint(folder / "odd", small_models.config(dim=96, num_heads=3))
    with pytest.raises(BadCheckpoint, match="cannot be quantised to q8"):
        load(odd, "q8")


def test_too_little_memory_is_said_with_the_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(ModelOutOfMemory, match="GB are free"):
        load(folder)
