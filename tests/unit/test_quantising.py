"""Quantising while reading: the same bits as MLX's own, whatever the pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshid.errors import BadCheckpoint
from moshid.model import quantising, safetensors_header
from moshid.model.load_progress import Advance
from moshid.model.qualities import GRIDS, size_as
from moshid.model.safetensors_header import Header


def ignore(*_what: Any) -> None:
    """Not wanted."""


def write(path: Path, arrays: dict[str, Any]) -> Header:
    mx.save_safetensors(str(path), arrays)
    return safetensors_header.read(path)


def matrices(dtype: mx.Dtype) -> dict[str, Any]:
    mx.random.seed(3)
    shapes = {"a.weight": (7, 64), "b.weight": (1500, 1024), "c.weight": (1, 128), "d": (33,)}
    return {name: mx.random.normal(shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32])
@pytest.mark.parametrize("quality", GRIDS)
@pytest.mark.parametrize("stage_bytes", [300, 4096, 100_000, quantising.STAGE_BYTES])
def test_pieces_of_any_size_give_what_mlx_gives_of_the_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: mx.Dtype,
    quality: str,
    stage_bytes: int,
) -> None:
    monkeypatch.setattr(quantising, "STAGE_BYTES", stage_bytes)
    arrays, path, grid = matrices(dtype), tmp_path / "m.safetensors", GRIDS[quality]
    header = write(path, arrays)
    made = quantising.run(path, header, {"a", "b"}, grid, ignore, ignore)
    assert made.keys() == quantising.facts_of(header, {"a", "b"}, grid).keys()
    for base in ("a", "b"):
        whole = mx.quantize(arrays[f"{base}.weight"], grid.group_size, grid.bits)
        for part, wanted in zip(("weight", "scales", "biases"), whole, strict=True):
            got = made[f"{base}.{part}"]
            assert got.dtype == wanted.dtype
            assert bool(mx.array_equal(got, wanted)), (base, part)
    for name in ("c.weight", "d"):
        assert bool(mx.array_equal(made[name], arrays[name]))


def test_finished_tensors_are_told_in_order_and_hold_their_bytes(tmp_path: Path) -> None:
    path, grid = tmp_path / "m.safetensors", GRIDS["q4"]
    header = write(path, matrices(mx.bfloat16))
    told: dict[str, bytes] = {}
    arrays = quantising.run(
        path, header, {"a", "b"}, grid, ignore, lambda name, view: told.update({name: bytes(view)})
    )
    facts = quantising.facts_of(header, {"a", "b"}, grid)
    assert list(told) == list(facts)
    assert {n: len(v) for n, v in told.items()} == {n: t.size_bytes for n, t in facts.items()}
    assert {n: (tuple(a.shape), a.nbytes) for n, a in arrays.items()} == {
        n: (t.shape, t.size_bytes) for n, t in facts.items()
    }
    assert told["b.weight"] == bytes(memoryview(arrays["b.weight"]).cast("B"))


def test_progress_is_in_bytes_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = write(path, matrices(mx.bfloat16))
    seen: list[Advance] = []
    quantising.run(path, header, {"a", "b"}, GRIDS["q8"], seen.append, ignore)
    assert seen[-1] == Advance("quantising", header.data_bytes, header.data_bytes, 4, 4)
    assert {a.stage for a in seen} == {"quantising"}


def test_a_file_that_is_cut_while_it_is_read_ends_the_load(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    header = write(path, matrices(mx.bfloat16))
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(BadCheckpoint, match="became shorter"):
        quantising.run(path, header, {"a", "b"}, GRIDS["q4"], ignore, ignore)


@pytest.mark.parametrize(("quality", "size_bytes"), [("q8", 8_168_645_376), ("q4", 4_805_385_728)])
def test_sizes_are_known_beforehand(quality: str, size_bytes: int) -> None:
    """Norms are not quantised, hence the tenths of a per mille."""
    assert size_as(quality, 15_375_630_336) == pytest.approx(size_bytes, rel=2e-4)
    assert size_as("bf16", size_bytes, of=quality) == pytest.approx(15_375_630_336, rel=2e-4)
