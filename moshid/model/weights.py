"""Weights from a safetensors file into moshi_mlx's modules. Owns the check that they belong there.

Files are bf16 (or another float) in full, or quantised beforehand; full ones are quantised while
they load when the modules want it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from moshid.errors import BadCheckpoint, ModelOutOfMemory
from moshid.model import memory, quantise, safetensors_header
from moshid.model.safetensors_header import TensorFacts

Progress = Callable[[str, float], None]
"""``(stage, fraction)``; stages: reading, quantising, warming."""

_NAMED_MAX = 3


def fill(lm: Any, path: Path, quality: str, progress: Progress) -> None:
    """Load the weights of ``path`` into ``lm``, whose modules are of ``quality`` already.

    Raises:
        BadCheckpoint: the file is missing, damaged, foreign, or holds another model.
        ModelOutOfMemory: the weights do not fit into what is free.
    """
    tensors = safetensors_header.read(path)
    wanted, at_load = _wanted(lm, tensors, quality)
    _check_names(path, tensors, wanted, quality)
    _check_shapes(path, tensors, wanted)
    _check_memory(lm, tensors, at_load)
    try:
        _read(lm, path, tensors, at_load, quality, progress)
    except MemoryError as e:
        raise ModelOutOfMemory(f"no memory for the weights of {path.name}") from e
    except RuntimeError as e:
        raise _as_known(e, path) from e


def _read(
    lm: Any,
    path: Path,
    tensors: dict[str, TensorFacts],
    at_load: set[str],
    quality: str,
    progress: Progress,
) -> None:
    """Parameter by parameter, quantising what the file holds in full."""
    stage = "quantising" if at_load else "reading"
    total = sum(t.size_bytes for t in tensors.values())
    done = 0
    arrays = mx.load(str(path))
    for name in sorted(arrays):
        weight = arrays.pop(name)
        base = name.removesuffix(".weight")
        if base in at_load and name.endswith(".weight"):
            parts = quantise.quantise_weight(weight, quality)
            lm.load_weights([(f"{base}.{k}", v) for k, v in parts.items()], strict=False)
        else:
            mx.eval(weight)
            lm.load_weights([(name, weight)], strict=False)
        done += tensors[name].size_bytes
        progress(stage, done / total)


def _wanted(
    lm: Any, tensors: dict[str, TensorFacts], quality: str
) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """The shapes that the file should hold, by name; and the modules to quantise at load."""
    wanted = quantise.expected_shapes(lm)
    if any(name.endswith(".scales") for name in tensors):
        return wanted, set()
    at_load = quantise.quantised_bases(wanted)
    for base in at_load:
        rows, groups = wanted.pop(f"{base}.scales")
        del wanted[f"{base}.biases"]
        wanted[f"{base}.weight"] = (rows, groups * quantise.GRIDS[quality].group_size)
    return wanted, at_load


def _check_names(
    path: Path,
    tensors: dict[str, TensorFacts],
    wanted: dict[str, tuple[int, ...]],
    quality: str,
) -> None:
    """Every parameter is in the file, and nothing else is."""
    if "out_norm.alpha" in tensors:
        raise BadCheckpoint(
            f"{path.name} is in PyTorch's layout", hint="Use the model's -mlx- repository."
        )
    missing = sorted(wanted.keys() - tensors.keys())
    extra = sorted(tensors.keys() - wanted.keys())
    if any(name.endswith(".scales") for name in extra):
        raise BadCheckpoint(
            f"{path.name} is quantised, and cannot be loaded as {quality}",
            hint="Load it with the quality it was made for (its name says q4 or q8).",
        )
    if missing or extra:
        raise BadCheckpoint(
            f"{path.name} does not hold this model's parameters: {_some('lacks', missing)}"
            f"{'; ' if missing and extra else ''}{_some('has no use for', extra)}"
        )


def _check_shapes(
    path: Path, tensors: dict[str, TensorFacts], wanted: dict[str, tuple[int, ...]]
) -> None:
    wrong = [n for n, shape in wanted.items() if tensors[n].shape != shape]
    if wrong:
        name = wrong[0]
        raise BadCheckpoint(
            f"{path.name}: {name} has the shape {list(tensors[name].shape)} where the "
            f"configuration wants {list(wanted[name])} ({len(wrong)} such parameters)"
        )


def _some(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = len(names) - _NAMED_MAX
    listed = ", ".join(names[:_NAMED_MAX])
    return f"{verb} {listed}" + (f" and {more} more" if more > 0 else "")


def _check_memory(lm: Any, tensors: dict[str, TensorFacts], at_load: set[str]) -> None:
    in_file = 0 if at_load else sum(t.size_bytes for t in tensors.values())
    needed = max(in_file, sum(w.nbytes for _, w in tree_flatten(lm.parameters())))
    available = memory.available_bytes()
    if available is not None and needed > available:
        raise ModelOutOfMemory(
            f"the weights take {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free"
        )


def _as_known(error: RuntimeError, weights: Path) -> BadCheckpoint | ModelOutOfMemory:
    text = str(error)
    if "alloc" in text.lower() or "memory" in text.lower():
        return ModelOutOfMemory(f"no memory for the weights of {weights.name}")
    return BadCheckpoint(f"{weights.name} cannot be loaded: {text.splitlines()[0]}")
