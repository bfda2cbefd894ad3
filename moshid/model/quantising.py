"""Quantises a safetensors file while it is read, a few rows at a time.

Bytes come into a few stages of fixed size, are quantised on as many lanes as there are cores (on a
GPU on one), and land in arrays of the final size: the peak is the quantised model and the stages.
Each row is quantised by itself, so this gives what ``mx.quantize`` gives of the whole matrix.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mlx.core as mx

from moshid.model.file_reader import FileReader
from moshid.model.load_progress import Progress, Tracker
from moshid.model.qualities import Grid
from moshid.model.safetensors_header import Header, TensorFacts
from moshid.model.tensor_memory import Allocator, Writable, bytes_of

STAGE_BYTES: Final = 4 * 1024 * 1024
STAGES: Final = 8
STAGES_BYTES: Final = 4 * STAGES * STAGE_BYTES
"""Room for the stages and for what MLX needs besides them while it quantises."""

LANES_MAX: Final = 8

Put = Callable[[str, memoryview], None]
"""Told of each finished tensor, in the order of ``facts_of``."""


def facts_of(header: Header, at_load: set[str], grid: Grid) -> dict[str, TensorFacts]:
    """What comes out, in the order in which it does: weight, scales and biases for each weight."""
    made: dict[str, TensorFacts] = {}
    for name, t in header.tensors.items():
        base = name.removesuffix(".weight")
        if base not in at_load:
            made[name] = TensorFacts(t.dtype, t.shape, t.size_bytes)
            continue
        rows, columns = t.shape
        packed, groups = columns * grid.bits // 32, columns // grid.group_size
        item_bytes = t.size_bytes // (rows * columns)
        made[f"{base}.weight"] = TensorFacts("U32", (rows, packed), rows * packed * 4)
        for part in ("scales", "biases"):
            size_bytes = rows * groups * item_bytes
            made[f"{base}.{part}"] = TensorFacts(t.dtype, (rows, groups), size_bytes)
    return made


def run(
    path: Path,
    header: Header,
    at_load: set[str],
    grid: Grid,
    progress: Progress,
    put: Put,
) -> dict[str, Any]:
    """The arrays of ``path``, those of ``at_load`` quantised.

    Raises:
        BadCheckpoint, ModelFilesGone: the file cannot be read to its end.
    """
    made = facts_of(header, at_load, grid)
    tracker = Tracker("quantising", header.tensors, header.data_bytes, progress)
    with FileReader(path) as reader:
        return _Run(reader, made, grid, tracker, put).of(header, at_load)


@dataclass(slots=True)
class _Stage:
    """Memory that bytes are read into, and its lane."""

    memory: Writable
    lane: Any


@dataclass(slots=True)
class _Tensor:
    """A tensor on its way: its parts' arrays by name, and how many pieces are still to come."""

    name: str
    parts: dict[str, Writable]
    pieces_left: int


@dataclass(slots=True)
class _Piece:
    """Some rows: being read, then being quantised (``results``: weight, scales, biases)."""

    tensor: _Tensor
    stage: _Stage | None
    first_row: int
    shape: tuple[int, int]
    dtype: str
    size_bytes: int
    reads: list[Future[None]]
    results: list[Any] = field(default_factory=list)


class _Run:
    """One pass over a file."""

    def __init__(
        self,
        reader: FileReader,
        made: Mapping[str, TensorFacts],
        grid: Grid,
        tracker: Tracker,
        put: Put,
    ) -> None:
        self._reader = reader
        self._memory = Allocator(made)
        self._grid = grid
        self._tracker = tracker
        self._put = put
        self._lanes = _lanes()
        self._stage_bytes = STAGE_BYTES
        self._free: deque[_Stage] = deque()
        self._reading: deque[_Piece] = deque()
        self._computing: deque[_Piece] = deque()
        self.arrays: dict[str, Any] = {}

    def of(self, header: Header, at_load: set[str]) -> dict[str, Any]:
        """All arrays by name."""
        widest = max((t.size_bytes // t.shape[0] for t in _matrices(header, at_load)), default=0)
        self._stage_bytes = max(STAGE_BYTES, widest)
        words = -(-self._stage_bytes // 4)
        stages = Allocator({str(n): TensorFacts("U32", (words,), 4 * words) for n in range(STAGES)})
        for number in range(STAGES):
            lane = self._lanes[number % len(self._lanes)]
            self._free.append(_Stage(stages.take(str(number)), lane))
        for name, t in header.tensors.items():
            base = name.removesuffix(".weight")
            if name.endswith(".weight") and base in at_load:
                self._rows(base, name, t)
            else:
                self._whole(name, t)
        while self._reading or self._computing:
            self._advance()
        return self.arrays

    def _whole(self, name: str, t: TensorFacts) -> None:
        into = self._memory.take(name)
        tensor = _Tensor(name, {name: into}, 1)
        reads = self._reader.fill(into.view, t.offset)
        self._reading.append(_Piece(tensor, None, 0, (0, 0), t.dtype, t.size_bytes, reads))

    def _rows(self, base: str, name: str, t: TensorFacts) -> None:
        rows, columns = t.shape
        row_bytes = t.size_bytes // rows
        step = max(1, self._stage_bytes // row_bytes)
        names = [f"{base}.{part}" for part in ("weight", "scales", "biases")]
        parts = {n: self._memory.take(n) for n in names}
        tensor = _Tensor(name, parts, -(-rows // step))
        for first in range(0, rows, step):
            while not self._free:
                self._advance()
            stage = self._free.popleft()
            count = min(step, rows - first)
            view = stage.memory.view[: count * row_bytes]
            reads = self._reader.fill(view, t.offset + first * row_bytes)
            shape = (count, columns)
            self._reading.append(_Piece(tensor, stage, first, shape, t.dtype, len(view), reads))

    def _advance(self) -> None:
        """Have the oldest piece that is read quantised, or land the oldest that is quantised."""
        if self._reading and len(self._computing) < max(1, len(self._lanes)):
            piece = self._reading.popleft()
            for read in piece.reads:
                read.result()
            if piece.stage is not None:
                piece.results = _begin(piece, piece.stage, self._grid)
            self._computing.append(piece)
            return
        self._land(self._computing.popleft())

    def _land(self, piece: _Piece) -> None:
        tensor = piece.tensor
        if piece.stage is not None:
            mx.eval(piece.results)
            for part, result in zip(tensor.parts.values(), piece.results, strict=True):
                got = bytes_of(result)
                at = piece.first_row * (len(got) // piece.shape[0])
                part.view[at : at + len(got)] = got
            piece.results = []
            self._free.append(piece.stage)
        self._tracker.came(piece.size_bytes)
        tensor.pieces_left -= 1
        if not tensor.pieces_left:
            for name, part in tensor.parts.items():
                self.arrays[name] = part.array
                self._put(name, part.view)
            self._tracker.finished(tensor.name)


def _begin(piece: _Piece, stage: _Stage, grid: Grid) -> list[Any]:
    """Have MLX begin to quantise; the results as dtypes that Python's buffers know."""
    dtype = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}[piece.dtype]
    with mx.stream(stage.lane):
        words = stage.memory.array[: piece.size_bytes // 4]  # a group fills whole words
        rows = words.view(dtype).reshape(piece.shape)
        packed, *rest = mx.quantize(rows, grid.group_size, grid.bits)
        if piece.dtype == "BF16":
            rest = [part.view(mx.uint16) for part in rest]
    results = [packed, *rest]
    mx.async_eval(results)
    return results


def _matrices(header: Header, at_load: set[str]) -> Iterator[TensorFacts]:
    return (t for name, t in header.tensors.items() if name.removesuffix(".weight") in at_load)


def _lanes() -> list[Any]:
    """MLX computes on one thread a stream on a CPU; a GPU needs no more than its own."""
    if mx.default_device().type != mx.DeviceType.cpu:
        return [mx.default_stream(mx.default_device())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [mx.new_stream(mx.cpu) for _ in range(min(cores or 1, LANES_MAX))]
