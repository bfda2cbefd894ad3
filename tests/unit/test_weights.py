"""Reading weights as they are: every dtype and architecture, progress, and what goes wrong."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid.errors import BadCheckpoint, ModelFilesGone, ModelOutOfMemory
from moshid.model import (
    memory,
    quantise,
    safetensors_header,
    weights,
    weights_check,
    working_set,
)
from moshid.model.file_reader import FileReader, as_known
from moshid.model.files import locate
from moshid.model.load_progress import Advance, layer_of
from tests.fakes import small_models

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "as the small one": {},
    "wide and deep": {"dim": 512, "num_heads": 8, "num_layers": 5, "text_card": 700},
    "sixteen and sixteen codebooks": {"n_q": 32, "dep_q": 16, "delays": [0] + ([0] + [2] * 15) * 2},
    "one codebook a side": {"n_q": 2, "dep_q": 1, "delays": [0, 0, 3]},
    "only heard": {"n_q": 8, "dep_q": 8, "delays": [0, 0, 1, 1, 1, 1, 1, 1, 1]},
    "another depformer": {"depformer_dim": 128, "depformer_num_layers": 4, "card": 128},
    "two streams of text": {"demux_second_stream": True},
    "heads besides": {"extra_heads_num_heads": 3, "extra_heads_dim": 6},
}


def ignore(_advance: Advance) -> None:
    """No progress wanted."""


def empty_lm(numbers: dict[str, Any], quality: str = "bf16") -> Any:
    lm = models.Lm(models.LmConfig.from_config_dict(numbers))
    lm.set_dtype(mx.bfloat16)
    quantise.quantise_modules(lm, quality)
    return lm


def equal(lm: Any, arrays: dict[str, Any]) -> bool:
    """Whether ``lm`` holds these arrays, bit for bit, dtypes included."""
    held = dict(tree_flatten(lm.parameters()))
    assert held.keys() == arrays.keys()
    return all(
        held[n].dtype == a.dtype and bool(mx.array_equal(held[n], a)) for n, a in arrays.items()
    )


@pytest.mark.parametrize("which", ARCHITECTURES)
@pytest.mark.parametrize("quality", ["bf16", "q4", "q8"])
def test_every_architecture_loads_as_it_is(tmp_path: Path, which: str, quality: str) -> None:
    numbers = small_models.config(**ARCHITECTURES[which])
    lm = small_models.random_lm(numbers)
    quantise.quantise_modules(lm, quality)
    arrays = dict(tree_flatten(lm.parameters()))
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), arrays)
    loaded = empty_lm(numbers, quality)
    filled = weights.fill(loaded, path, quality, ignore)
    assert (filled.file, filled.how, filled.writer) == (path, "read", None)
    assert equal(loaded, arrays)


@pytest.mark.parametrize("which", ARCHITECTURES)
def test_every_architecture_is_found_by_its_config(tmp_path: Path, which: str) -> None:
    numbers = small_models.config(**ARCHITECTURES[which])
    (tmp_path / "config.json").write_text(json.dumps(numbers))
    for name in ("model.safetensors", "codec.safetensors", "tokenizer_spm_small.model"):
        (tmp_path / name).touch()
    paths = locate("some/model", "q4", {p.name: p for p in tmp_path.iterdir()})
    assert paths.codebooks == max(numbers["dep_q"], numbers["n_q"] - numbers["dep_q"])
    assert paths.delay_frames == max(numbers["delays"][1:]) + 1


@pytest.mark.parametrize("dtype", [mx.float16, mx.float32])
def test_other_floats_are_kept(tmp_path: Path, dtype: mx.Dtype) -> None:
    numbers = small_models.config()
    lm = small_models.random_lm(numbers)
    lm.set_dtype(dtype)
    arrays = dict(tree_flatten(lm.parameters()))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays)
    loaded = empty_lm(numbers)
    weights.fill(loaded, tmp_path / "model.safetensors", "bf16", ignore)
    assert equal(loaded, arrays)


def test_tensors_larger_than_a_piece_come_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {
        "a": mx.random.normal((4500, 1000)),
        "b": mx.random.normal((3,)),
    }
    mx.save_safetensors(str(path), arrays)
    assert path.stat().st_size > 2 * 8 * 1024 * 1024
    read = weights.read_plain(path, safetensors_header.read(path), ignore)
    assert all(bool(mx.array_equal(read[n], a)) for n, a in arrays.items())


def test_progress_counts_bytes_and_layers_to_the_last(tmp_path: Path) -> None:
    small_models.write_checkpoint(tmp_path)
    seen: list[Advance] = []
    path = tmp_path / "model.safetensors"
    weights.fill(empty_lm(small_models.config(), "q4"), path, "q4", seen.append)
    for one, two in itertools.pairwise(seen):
        assert one.bytes_done <= two.bytes_done
        assert one.layers_done <= two.layers_done
    total = safetensors_header.read(path).data_bytes
    assert seen[-1] == Advance("quantising", total, total, 17, 17)
    assert seen[-1].as_event()["fraction"] == 1.0
    assert seen[0].layers_done < 17


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("transformer.layers.11.gating.linear_in.weight", "transformer.layers.11"),
        ("depformer.slices.3.transformer.layers.1.norm1.weight", "depformer.slices.3"),
        ("audio_embs.15.weight", "audio_embs.15"),
        ("text_linear.weight", "text_linear"),
        ("condition_provider.conditioners.description.embed.weight", "condition_provider"),
    ],
)
def test_layers_are_what_has_a_number(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def quantised_file(path: Path, bits: int, group_size: int) -> None:
    lm = small_models.random_lm(small_models.config())
    nn.quantize(lm, bits=bits, group_size=group_size)
    mx.save_safetensors(str(path), dict(tree_flatten(lm.parameters())))


@pytest.mark.parametrize(
    ("bits", "group_size", "named", "advice"),
    [
        (8, 64, "q4", "load it as q8"),
        (4, 32, "q8", "load it as q4"),
        (4, 64, "q4", "fetch the right file"),
    ],
)
def test_a_grouping_that_the_name_denies_is_refused_with_both_shapes(
    tmp_path: Path, bits: int, group_size: int, named: str, advice: str
) -> None:
    path = tmp_path / f"model.{named}.safetensors"
    quantised_file(path, bits, group_size)
    with pytest.raises(BadCheckpoint) as caught:
        weights.fill(empty_lm(small_models.config(), named), path, named, ignore)
    message = caught.value.message
    assert f"{bits} bits in groups of {group_size}, where {named} is" in message
    columns = 256
    for grid in ((bits, group_size), {"q4": (4, 32), "q8": (8, 64)}[named]):
        assert f", {columns * grid[0] // 32}] and [" in message
        assert f", {columns // grid[1]}]" in message
    assert advice in caught.value.hint
    assert "bf16 quantised at load" in caught.value.hint


def test_a_quantised_file_of_another_architecture_is_refused_with_both_shapes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.q4.safetensors"
    quantised_file(path, 4, 32)
    other = empty_lm(small_models.config(card=32), "q4")
    with pytest.raises(BadCheckpoint, match=r"\[64, 8\] where .* wants \[32, 8\] for q4") as caught:
        weights.fill(other, path, "q4", ignore)
    assert "config.json are not of one model" in caught.value.hint


@pytest.mark.parametrize("dtype", [mx.int32, mx.uint32, mx.int64])
def test_numbers_that_are_no_weights_are_refused(tmp_path: Path, dtype: mx.Dtype) -> None:
    lm = small_models.random_lm(small_models.config())
    arrays = dict(tree_flatten(lm.parameters()))
    arrays["text_emb.weight"] = arrays["text_emb.weight"].astype(dtype)
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), arrays)
    with pytest.raises(BadCheckpoint, match=r"text_emb.weight is of .* may be BF16"):
        weights.fill(empty_lm(small_models.config()), path, "bf16", ignore)


def test_a_file_that_shrinks_while_it_is_read_is_an_error_not_a_signal(tmp_path: Path) -> None:
    small_models.write_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    size = path.stat().st_size
    header = safetensors_header.read(path)
    os.truncate(path, size // 2)
    with pytest.raises(BadCheckpoint, match="became shorter while it was read"):
        weights.read_plain(path, header, ignore)


def test_a_disk_that_gives_little_at_a_time_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: real(fd, [views[0][:7]], at))
    path = tmp_path / "model.safetensors"
    array = mx.random.normal((5, 21))
    mx.save_safetensors(str(path), {"a": array})
    read = weights.read_plain(path, safetensors_header.read(path), ignore)
    assert bool(mx.array_equal(read["a"], array))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE])
def test_a_disk_that_answers_no_more_is_an_error_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(64))

    def preadv(_fd: int, _views: list[memoryview], _at: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", preadv)
    with FileReader(path) as reader:
        path.unlink()
        (read,) = reader.fill(memoryview(bytearray(64)), 0)
        with pytest.raises(ModelFilesGone, match="can no longer be read"):
            read.result()


def test_a_volume_that_does_not_even_know_the_path_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(_path: Path, **_how: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "stat", stat)
    known = as_known(OSError(errno.EIO, os.strerror(errno.EIO)), tmp_path / "model.safetensors")
    assert isinstance(known, ModelFilesGone)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that answers with EIO")
def test_a_bad_sector_is_repaired_not_connected() -> None:
    """Nothing is mapped at address 0, so reading there is EIO, though the path is there."""
    with FileReader(Path("/proc/self/mem")) as reader:
        (read,) = reader.fill(memoryview(bytearray(64)), 0)
        with pytest.raises(BadCheckpoint, match="its volume is there: Input/output") as caught:
            read.result()
    assert "moshi-client verify MODEL --repair" in caught.value.hint


@pytest.mark.parametrize("quality", ["bf16", "q8"])
def test_too_little_memory_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quality: str
) -> None:
    small_models.write_checkpoint(tmp_path)
    seen: list[Advance] = []
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    path, lm = tmp_path / "model.safetensors", empty_lm(small_models.config(), quality)
    with pytest.raises(ModelOutOfMemory, match=f"as {quality} takes .* 0.0 GB are free") as caught:
        weights.fill(lm, path, quality, seen.append)
    assert not seen
    assert caught.value.facts["available_bytes"] == 1_000_000
    assert caught.value.facts["needed_bytes"] > 1_000_000


@pytest.mark.parametrize("quality", ["bf16", "q8"])
def test_on_metal_the_recommended_working_set_has_to_hold_keys_and_values_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quality: str
) -> None:
    """A 16 GB Mac: its memory would hold the weights, but not what a talk takes besides."""
    numbers = small_models.config(context=3000)
    small_models.write_checkpoint(tmp_path)
    path, lm = tmp_path / "model.safetensors", empty_lm(numbers, quality)
    header = safetensors_header.read(path)
    limit = 2 * header.data_bytes
    monkeypatch.setattr(working_set, "recommended_bytes", lambda: limit)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    transformer = lm.cfg.transformer
    cache = 2 * transformer.num_layers * transformer.d_model * 2 * 3000
    seen: list[Advance] = []
    with pytest.raises(ModelOutOfMemory, match="MLX recommends to use at most") as caught:
        weights.fill(lm, path, quality, seen.append)
    assert not seen
    assert "GB of weights" in caught.value.message
    assert caught.value.facts["available_bytes"] == limit
    assert caught.value.facts["needed_bytes"] > cache
    monkeypatch.setattr(working_set, "recommended_bytes", lambda: 10**9)
    weights.fill(lm, path, quality, seen.append)
    assert seen


def test_a_mac_without_metal_goes_by_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_set, "recommended_bytes", lambda: None)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    monkeypatch.setattr(memory, "total_bytes", lambda: 2_000_000_000)
    asked = weights_check.Needs(1_900_000_000, 100_000_000, 1)
    with pytest.raises(ModelOutOfMemory, match=r"takes 2\.0 GB .*this machine has 2\.0 GB"):
        weights_check.check_memory(asked, tmp_path / "model.safetensors", "bf16")
