"""MLX arrays whose memory is written from outside. Owns the only place where that is done.

An evaluated array's buffer is plain memory, on Metal too, and stays where it is; nobody computes
with the array before all of it has been written. MLX has no call for an array that nobody has
written yet (``zeros`` would touch each page twice); but it loads from any file object, and
``_Blank`` is one that puts nothing into what it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx

from moshid.model import pages, safetensors_header
from moshid.model.safetensors_header import ITEM_BYTES, TensorFacts

_WRITTEN_AS: Final = {"BF16": "U16"}
"""What is asked of MLX: bf16 has no name that Python's buffers know."""

_DTYPES: Final = {
    "BF16": mx.bfloat16,
    "F16": mx.float16,
    "F32": mx.float32,
    "U32": mx.uint32,
}
"""Of what may be placed."""

PLACED_MIN_BYTES: Final = 256 * 1024
SLAB_BYTES: Final = 32 * 1024 * 1024
"""Placed tensors share stretches of about this size, since most of Moshi's are no multiple of a
large page. A stretch is given back when nobody uses any of it."""


@dataclass(frozen=True, slots=True)
class Writable:
    """``array`` as the model takes it, and its memory as bytes."""

    array: Any
    view: memoryview


class Allocator:
    """Makes the arrays of ``tensors`` by name, each when it is asked for."""

    def __init__(
        self, tensors: Mapping[str, TensorFacts], placed: Collection[str] | None = None
    ) -> None:
        """``placed``: those (see ``placeable``) that are to begin in a page of memory where they
        begin in a page of their file, so that a disk can write them by itself (``FileReader``).
        They share large pages."""
        self._tensors = tensors
        self._places, slabs = _placing({n: t for n, t in tensors.items() if n in (placed or ())})
        asked = {
            name: TensorFacts(_WRITTEN_AS.get(t.dtype, t.dtype), t.shape, t.size_bytes)
            for name, t in tensors.items()
            if name not in self._places
        }
        asked |= {_slab(n): TensorFacts("U8", (size,), size) for n, size in enumerate(slabs)}
        self._lazy: dict[str, Any] = mx.load(_Blank(asked), format="safetensors")
        self._slab: tuple[int, Any, int] | None = None

    def take(self, name: str) -> Writable:
        """The array of that name, of which nothing is written yet; placed ones in order."""
        if name in self._places:
            return self._take_placed(name)
        raw = self._lazy.pop(name)
        mx.eval(raw)
        array = raw
        if self._tensors[name].dtype == "BF16":
            array = raw.view(mx.bfloat16)
            mx.eval(array)
        return Writable(array, bytes_of(raw))

    def _take_placed(self, name: str) -> Writable:
        t = self._tensors[name]
        number, at = self._places[name]
        if self._slab is None or self._slab[0] != number:
            raw = self._lazy.pop(_slab(number))
            mx.eval(raw)
            memory = bytes_of(raw)
            begin = -pages.address_of(memory) % pages.LARGE_BYTES
            pages.want_large(memory[begin:])
            self._slab = (number, raw, begin)
        _number, raw, begin = self._slab
        start, stop = begin + at, begin + at + t.size_bytes
        array = raw[start:stop].view(_DTYPES[t.dtype]).reshape(t.shape)
        mx.eval(array)
        return Writable(array, bytes_of(raw)[start:stop])


def placeable(tensors: Mapping[str, TensorFacts]) -> set[str]:
    """Those that a disk may write by itself, and that are large enough for it. (A file may begin a
    tensor where none of its elements may stand in memory.)"""
    return {
        name
        for name, t in tensors.items()
        if t.size_bytes >= PLACED_MIN_BYTES
        and t.dtype in _DTYPES
        and t.offset % ITEM_BYTES[t.dtype] == 0
    }


def _placing(tensors: Mapping[str, TensorFacts]) -> tuple[dict[str, tuple[int, int]], list[int]]:
    """Slab and place in it of each, and the slabs' sizes, with what aligns them."""
    places: dict[str, tuple[int, int]] = {}
    ends: list[int] = []
    for name, t in tensors.items():
        if not ends or ends[-1] + t.size_bytes > SLAB_BYTES:
            ends.append(0)
        at = ends[-1] + (t.offset - ends[-1]) % pages.PAGE_BYTES
        places[name] = (len(ends) - 1, at)
        ends[-1] = at + t.size_bytes
    return places, [end + pages.LARGE_BYTES for end in ends]


def _slab(number: int) -> str:
    return f"slab {number}"


def bytes_of(array: Any) -> memoryview:
    """The memory of an evaluated, contiguous array, of any dtype but bf16."""
    return memoryview(array).cast("B") if array.size else memoryview(bytearray())


class _Blank:
    """A safetensors file as MLX reads it: a header, and data that leave the memory as it is."""

    closed = False

    def __init__(self, tensors: Mapping[str, TensorFacts]) -> None:
        self._header = safetensors_header.pack(tensors, {})
        self._size_bytes = len(self._header) + sum(t.size_bytes for t in tensors.values())
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        self._at = offset + (0, self._at, self._size_bytes)[whence]
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def read(self, _count: int = -1) -> bytes:
        """MLX wants it to be there; it uses ``readinto``."""
        raise NotImplementedError

    def readinto(self, memory: memoryview) -> int:
        """As of a file, where the header is; elsewhere nothing is written."""
        if self._at < len(self._header):
            memory[:] = self._header[self._at : self._at + len(memory)]
        self._at += len(memory)
        return len(memory)
