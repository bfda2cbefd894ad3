"""What a safetensors file says it holds, read without loading it. Owns the detection of truncated
and foreign files.

The format: u64 little-endian length, that many bytes of JSON ``{name: {dtype, shape,
data_offsets}}``, then the data.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moshid.errors import BadCheckpoint

HEADER_BYTES_MAX = 100_000_000


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor: its dtype as the file names it (``BF16``, ``U32``), shape and size."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def read(path: Path) -> dict[str, TensorFacts]:
    """The tensors of ``path`` by name.

    Raises:
        BadCheckpoint: missing, unreadable, not safetensors, or shorter than it says.
    """
    try:
        with path.open("rb") as f:
            size = path.stat().st_size
            prefix = f.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(HEADER_BYTES_MAX, size - 8):
                raise BadCheckpoint(f"{path.name} is no safetensors file, or is cut short")
            header = json.loads(f.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _facts(entry) for name, entry in header.items()}
            end = max((e["data_offsets"][1] for e in header.values()), default=0)
    except OSError as e:
        raise BadCheckpoint(f"{path} cannot be read: {e.strerror}") from e
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise BadCheckpoint(f"{path.name} is no safetensors file: its header is broken") from e
    if size != 8 + length + end:
        raise BadCheckpoint(
            f"{path.name} has {size:,} bytes where its header says {8 + length + end:,}: "
            "it is cut short or damaged"
        )
    return tensors


def _facts(entry: dict[str, Any]) -> TensorFacts:
    begin, end = entry["data_offsets"]
    return TensorFacts(str(entry["dtype"]), tuple(map(int, entry["shape"])), int(end) - int(begin))
