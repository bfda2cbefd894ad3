"""Whether a file's tensors belong into a model. Owns what is said when they do not.

Works on shapes alone, before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from moshid.errors import BadCheckpoint, ModelOutOfMemory
from moshid.model import footprint, memory, quantise, working_set
from moshid.model.qualities import GRIDS, Grid
from moshid.model.safetensors_header import ITEM_BYTES, TensorFacts

_NAMED_MAX: Final = 3
_FLOATS: Final = ("BF16", "F16", "F32")

Shapes = dict[str, tuple[int, ...]]
Tensors = Mapping[str, TensorFacts]


def check(lm: Any, path: Path, tensors: Tensors, quality: str) -> set[str]:
    """Refuse what is not a file of ``lm``'s parameters, whose modules are of ``quality`` already;
    the modules whose weights are to be quantised at load.

    Raises:
        BadCheckpoint: the file holds another model, layout, grouping or dtype.
    """
    wanted = quantise.expected_shapes(lm)
    at_load: set[str] = set()
    if any(name.endswith(".scales") for name in tensors):
        _check_grid(path, tensors, wanted, quality)
    else:
        at_load = quantise.quantised_bases(wanted)
        wanted = _in_full(wanted, at_load, quality)
    _check_names(path, tensors, wanted)
    _check_shapes(path, tensors, wanted, quality)
    _check_dtypes(path, tensors)
    return at_load


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model takes, in bytes: its weights, its full key-value cache, and what it works with
    (at load, or in steps)."""

    weights_bytes: int
    cache_bytes: int
    working_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.cache_bytes + self.working_bytes


def needs(lm: Any, tensors: Tensors, weights_bytes: int, loading_bytes: int = 0) -> Needs:
    """What ``lm`` will take with ``weights_bytes`` of weights. ``tensors`` are the file's, checked;
    ``loading_bytes`` are wanted while it is loaded only."""
    item_bytes = ITEM_BYTES[tensors["out_norm.weight"].dtype]
    cache_bytes = footprint.of_model({}, lm.cfg.transformer, item_bytes).kv_full_bytes
    working_bytes = min(footprint.WORKING_BYTES, weights_bytes)  # small models work with little
    return Needs(weights_bytes, cache_bytes, max(working_bytes, loading_bytes - cache_bytes))


def check_memory(needs: Needs, path: Path, quality: str) -> None:
    """Refuse before anything is read.

    On Metal the limit is the working set that MLX recommends: macOS makes room for any program as
    long as there is memory at all, and one whose model is larger than that swaps in each step.

    Raises:
        ModelOutOfMemory: more is needed than can be had.
    """
    limit = working_set.recommended_bytes()
    said = "MLX recommends to use at most {:.1f} GB here"
    if limit is None:
        limit, said = memory.available_bytes(), "{:.1f} GB are free"
    if limit is None:  # macOS without Metal
        limit, said = memory.total_bytes(), "this machine has {:.1f} GB"
    if needs.total_bytes > limit:
        raise ModelOutOfMemory(
            f"{path.name} as {quality} takes {needs.total_bytes / 1e9:.1f} GB of memory "
            f"({needs.weights_bytes / 1e9:.1f} GB of weights, {needs.cache_bytes / 1e9:.1f} GB of "
            f"keys and values, {needs.working_bytes / 1e9:.1f} GB to work with), "
            + said.format(limit / 1e9),
            needed_bytes=needs.total_bytes,
            available_bytes=limit,
        )


def _in_full(wanted: Shapes, bases: set[str], quality: str) -> Shapes:
    """``wanted`` as a file has it that is not quantised."""
    full = dict(wanted)
    for base in bases:
        rows, groups = full.pop(f"{base}.scales")
        del full[f"{base}.biases"]
        full[f"{base}.weight"] = (rows, groups * GRIDS[quality].group_size)
    return full


def _check_grid(path: Path, tensors: Tensors, wanted: Shapes, quality: str) -> None:
    """The file's grouping is that of ``quality``."""
    if quality not in GRIDS:
        raise BadCheckpoint(
            f"{path.name} is quantised, and cannot be loaded as {quality}",
            hint="Load it with the quality it was made for (its name says q4 or q8).",
        )
    ours = GRIDS[quality]
    for base in sorted(quantise.quantised_bases(wanted)):
        weight, scales = tensors.get(f"{base}.weight"), tensors.get(f"{base}.scales")
        if weight is None or scales is None or len(weight.shape) != 2 or len(scales.shape) != 2:
            continue
        columns = wanted[f"{base}.scales"][1] * ours.group_size
        theirs = _grid_of(weight.shape[1], scales.shape[1], columns)
        if theirs is not None and theirs != ours:
            raise _other_grid(path, base, tensors, wanted, theirs, quality)
        return


def _grid_of(packed: int, groups: int, columns: int) -> Grid | None:
    """What makes ``columns`` weights into ``packed`` words of 32 bits and ``groups`` scales."""
    if groups == 0 or columns % groups or (packed * 32) % columns:
        return None
    return Grid(packed * 32 // columns, columns // groups)


def _other_grid(
    path: Path, base: str, tensors: Tensors, wanted: Shapes, theirs: Grid, quality: str
) -> BadCheckpoint:
    def shapes(of: Mapping[str, Any]) -> str:
        found = (of[f"{base}.{part}"] for part in ("weight", "scales"))
        return " and ".join(str(list(getattr(f, "shape", f))) for f in found)

    ours = GRIDS[quality]
    fitting = next((q for q, grid in GRIDS.items() if grid == theirs), None)
    advice = f"load it as {fitting} (its name should say so)" if fitting else "fetch the right file"
    return BadCheckpoint(
        f"{path.name} holds {theirs.bits} bits in groups of {theirs.group_size}, where {quality} "
        f"is {ours.bits} bits in groups of {ours.group_size}: {base} has the shapes "
        f"{shapes(tensors)}, {shapes(wanted)} are wanted",
        hint=f"Either {advice}, or have bf16 quantised at load.",
    )


def _check_names(path: Path, tensors: Tensors, wanted: Shapes) -> None:
    """Every parameter is in the file, and nothing else is."""
    if "out_norm.alpha" in tensors:
        raise BadCheckpoint(
            f"{path.name} is in PyTorch's layout", hint="Use the model's -mlx- repository."
        )
    missing = sorted(wanted.keys() - tensors.keys())
    extra = sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        raise BadCheckpoint(
            f"{path.name} does not hold this model's parameters: {_some('lacks', missing)}"
            f"{'; ' if missing and extra else ''}{_some('has no use for', extra)}"
        )


def _check_shapes(path: Path, tensors: Tensors, wanted: Shapes, quality: str) -> None:
    wrong = [n for n, shape in wanted.items() if tensors[n].shape != shape]
    if wrong:
        name = wrong[0]
        raise BadCheckpoint(
            f"{path.name}: {name} has the shape {list(tensors[name].shape)} where the "
            f"configuration wants {list(wanted[name])} for {quality} ({len(wrong)} such)",
            hint="Weights and config.json are not of one model: fetch both from one repository "
            "(moshi-client verify MODEL tells which file is not the repository's).",
        )


def _check_dtypes(path: Path, tensors: Tensors) -> None:
    for name, t in tensors.items():
        packed = f"{name.removesuffix('.weight')}.scales" in tensors and name.endswith(".weight")
        allowed = ("U32",) if packed else _FLOATS
        if t.dtype not in allowed:
            raise BadCheckpoint(
                f"{path.name}: {name} is of {t.dtype}, where it may be {' or '.join(allowed)}"
            )


def _some(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = len(names) - _NAMED_MAX
    listed = ", ".join(names[:_NAMED_MAX])
    return f"{verb} {listed}" + (f" and {more} more" if more > 0 else "")
