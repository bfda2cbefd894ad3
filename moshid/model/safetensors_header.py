"""What a safetensors file says it holds, read without loading it. Owns the detection of truncated
and foreign files, and of headers that contradict themselves.

The format: u64 little-endian length, that many bytes of JSON ``{name: {dtype, shape,
data_offsets}}``, then the data, without overlaps and holes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from moshid.errors import BadCheckpoint
from moshid.model.file_reader import as_known

HEADER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Moshi's header has 60 kB. Nobody's JSON may fill the memory."""

DIMENSIONS_MAX: Final = 16

ITEM_BYTES: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
"""Bytes an element, by the format's names."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor: its dtype as the file names it (``BF16``, ``U32``), shape, size, and where in
    the file it begins."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors by name, in the order of their data, and its metadata."""

    tensors: dict[str, TensorFacts]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def data_bytes(self) -> int:
        """What the tensors take."""
        return sum(t.size_bytes for t in self.tensors.values())


def read(path: Path) -> Header:
    """The header of ``path``.

    Raises:
        BadCheckpoint: missing, unreadable, not safetensors, shorter or longer than it says, or
            with tensors that overlap, leave holes, or whose sizes do not fit their shapes.
        ModelFilesGone: the disk does not answer.
    """
    try:
        with path.open("rb") as f:
            size = os.fstat(f.fileno()).st_size
            prefix = f.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(HEADER_BYTES_MAX, size - 8):
                raise BadCheckpoint(f"{path.name} is no safetensors file, or is cut short")
            text = f.read(length)
    except OSError as e:
        raise as_known(e, path) from e
    try:
        tensors, metadata = parse(text)
    except (ValueError, RecursionError) as e:
        raise BadCheckpoint(
            f"{path.name} is no safetensors file: its header is broken ({_short(e)})"
        ) from e
    begin = 8 + length
    end = begin + sum(t.size_bytes for t in tensors.values())
    if size != end:
        raise BadCheckpoint(
            f"{path.name} has {size:,} bytes where its header says {end:,}: "
            "it is cut short or damaged"
        )
    placed = {
        name: TensorFacts(t.dtype, t.shape, t.size_bytes, begin + t.offset)
        for name, t in tensors.items()
    }
    return Header(placed, metadata)


def parse(text: bytes) -> tuple[dict[str, TensorFacts], dict[str, str]]:
    """Tensors (offsets from the beginning of the data) and metadata of a header's JSON.

    Raises:
        ValueError: it is none, or contradicts itself.
        RecursionError: it is nested absurdly deep.
    """
    header = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    if not isinstance(header, dict):
        raise ValueError("it is no JSON object")
    metadata = header.pop("__metadata__", None) or {}  # MLX writes null
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata are no texts")
    tensors = {name: _facts(name, entry) for name, entry in header.items()}
    ordered = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size_bytes))
    _check_gapless(ordered)
    return dict(ordered), metadata


def pack(tensors: Mapping[str, TensorFacts], metadata: Mapping[str, str]) -> bytes:
    """The length and the header of a file that holds ``tensors`` one after the other."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, t in tensors.items():
        offsets = [at, at + t.size_bytes]
        entries[name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": offsets}
        at += t.size_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _facts(name: str, entry: Any) -> TensorFacts:
    if not isinstance(entry, dict):
        raise ValueError(f"{name!r} has no description")
    dtype: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    item_bytes = ITEM_BYTES.get(dtype) if isinstance(dtype, str) else None
    if item_bytes is None:
        raise ValueError(f"{name!r} has the unknown dtype {dtype!r}")
    if not _are_counts(shape) or len(shape) > DIMENSIONS_MAX:
        raise ValueError(f"{name!r} has the shape {shape!r}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name!r} has the offsets {offsets!r}")
    begin, end = offsets
    if end - begin != math.prod(shape) * item_bytes:
        raise ValueError(f"{name!r}: {end - begin:,} bytes do not make {dtype} {shape!r}")
    return TensorFacts(dtype, tuple(shape), end - begin, begin)


def _are_counts(values: Any) -> bool:
    """Whether this is a list of integers that can be sizes (``True`` is none)."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _check_gapless(ordered: Iterable[tuple[str, TensorFacts]]) -> None:
    at = 0
    for name, t in ordered:
        if t.offset != at:
            what = "overlaps what is before it" if t.offset < at else "leaves a hole before it"
            raise ValueError(f"{name!r} {what}")
        at += t.size_bytes


def _short(error: Exception) -> str:
    return str(error)[:120]
