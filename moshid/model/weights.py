"""Weights from a safetensors file into moshi_mlx's modules: as they are, or quantised on the way.

Owns the choice between the file and a quantised copy of it that an earlier load has left. Reads in
the file's order, with several reads under way, each straight into the memory of an MLX array.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from moshid import mlx_setup
from moshid.errors import BadCheckpoint, ModelFilesGone, ModelOutOfMemory, MoshidError
from moshid.model import matrices, quantised_store, quantising, safetensors_header, weights_check
from moshid.model.file_reader import FileReader
from moshid.model.load_progress import Advance as Advance
from moshid.model.load_progress import Progress as Progress
from moshid.model.load_progress import Tracker
from moshid.model.qualities import GRIDS
from moshid.model.quantised_store import Source
from moshid.model.quantised_writer import CopyWriter, Keep
from moshid.model.safetensors_header import Header
from moshid.model.tensor_memory import Allocator, Writable, placeable

log = logging.getLogger(__name__)

AHEAD_BYTES: Final = 256 * 1024 * 1024
"""So much memory is made ready before the bytes for it have come."""


STRAIGHT_MIN_BYTES: Final = 256 * 1024 * 1024
"""Smaller files are better off in the page cache, for the next load."""


@dataclass(frozen=True, slots=True)
class Filled:
    """How the weights came. ``writer``: a quantised copy is being written, which goes on."""

    file: Path
    how: str
    """``read``, ``copy`` (quantised by an earlier load) or ``quantised``."""
    writer: CopyWriter | None = None


def fill(lm: Any, path: Path, quality: str, progress: Progress, keep: Keep | None = None) -> Filled:
    """Load the weights of ``path`` into ``lm``, whose modules are of ``quality`` already.

    ``keep``: where quantised copies are read and written when ``path`` has to be quantised.

    Raises:
        BadCheckpoint: the file is missing, damaged, foreign, or holds another model.
        ModelFilesGone: its volume went away.
        ModelOutOfMemory: the weights do not fit into what is free.
    """
    header = safetensors_header.read(path)
    at_load = weights_check.check(lm, path, header.tensors, quality)
    try:
        if not at_load:
            _check_memory(lm, path, header, quality)
            _apply(lm, read_plain(path, header, progress))
            return Filled(path, "read")
        source = quantised_store.source_of(path)
        if (copy := _from_copy(lm, source, quality, progress, keep)) is not None:
            return Filled(copy, "copy")
        return _quantise(lm, source, header, at_load, quality, progress, keep)
    except MemoryError as e:
        raise ModelOutOfMemory(f"no memory for the weights of {path.name}") from e
    except RuntimeError as e:
        raise _as_known(e, path) from e


def read_plain(
    path: Path,
    header: Header,
    progress: Progress,
    digests: Mapping[str, str] | None = None,
    *,
    straight: bool | None = None,
) -> dict[str, Any]:
    """The arrays of ``path``, as they are. ``digests``: XXH3 of each tensor, to be checked;
    ``straight``: past the page cache, None: where that is faster.

    Raises:
        BadCheckpoint: a tensor has another digest, or the file cannot be read.
        ModelFilesGone: as ``fill``.
    """
    tracker = Tracker("reading", header.tensors, header.data_bytes, progress)
    arrays: dict[str, Any] = {}
    coming: deque[tuple[str, Writable, list[Future[None]]]] = deque()
    ahead_bytes = 0

    def take() -> int:
        name, into, pieces = coming.popleft()
        for piece in pieces:
            piece.result()
        if digests is not None and quantised_store.digest(into.view) != digests.get(name):
            raise BadCheckpoint(f"{path.name} is damaged: {name} has another digest")
        arrays[name] = into.array
        tracker.came(len(into.view))
        tracker.finished(name)
        return len(into.view)

    if straight is None:  # a GPU's memory may be none that a disk can write
        straight = mlx_setup.computes_on_cpu() and header.data_bytes >= STRAIGHT_MIN_BYTES
    with FileReader(path, straight=straight) as reader:
        memory = Allocator(header.tensors, _staying(header) if reader.is_straight else None)
        for name, tensor in header.tensors.items():
            into = memory.take(name)
            coming.append((name, into, reader.fill(into.view, tensor.offset)))
            ahead_bytes += tensor.size_bytes
            while coming and (ahead_bytes > AHEAD_BYTES or all(p.done() for p in coming[0][2])):
                ahead_bytes -= take()
        while coming:
            take()
    return arrays


def _staying(header: Header) -> set[str]:
    """What the model keeps as it is: it may stand with others in one stretch of memory, which goes
    as a whole. Scales and biases become float32 on a CPU, and other matrices are joined."""
    quantised = any(name.endswith(".scales") for name in header.tensors)
    return {
        name
        for name in placeable(header.tensors)
        if not matrices.is_joined(name) and (not quantised or header.tensors[name].dtype == "U32")
    }


def _from_copy(
    lm: Any, source: Source, quality: str, progress: Progress, keep: Keep | None
) -> Path | None:
    """Load what an earlier load has quantised, if it is there and whole; its path. One that is
    damaged or cannot be read is deleted, if it can be: it will be made again."""
    copy = quantised_store.find(keep.folder, source, quality) if keep else None
    if copy is None:
        return None
    try:
        header = safetensors_header.read(copy.path)
        if weights_check.check(lm, copy.path, header.tensors, quality):
            raise BadCheckpoint(f"{copy.path.name} is not quantised")
        _check_memory(lm, copy.path, header, quality)
        _apply(lm, read_plain(copy.path, header, progress, copy.digests))
    except (BadCheckpoint, ModelFilesGone) as e:
        log.warning("the quantised copy is made again: %s", e.message)
        with contextlib.suppress(OSError):  # of a volume that is read-only or gone
            copy.path.unlink()
        return None
    return copy.path


def _quantise(
    lm: Any,
    source: Source,
    header: Header,
    at_load: set[str],
    quality: str,
    progress: Progress,
    keep: Keep | None,
) -> Filled:
    grid = GRIDS[quality]
    made = quantising.facts_of(header, at_load, grid)
    weights_bytes = sum(t.size_bytes for t in made.values())
    needs = weights_check.needs(lm, header.tensors, weights_bytes, quantising.STAGES_BYTES)
    weights_check.check_memory(needs, source.path, quality)
    writer = CopyWriter(keep, source, quality, made) if keep is not None else None
    if writer is not None:
        writer.start()
    try:
        arrays = quantising.run(
            source.path, header, at_load, grid, progress, writer.put if writer else _ignore
        )
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    if writer is not None:
        writer.finish()
    _apply(lm, arrays)
    return Filled(source.path, "quantised", writer)


def _check_memory(lm: Any, path: Path, header: Header, quality: str) -> None:
    """For weights that are loaded as they are."""
    needs = weights_check.needs(lm, header.tensors, header.data_bytes)
    weights_check.check_memory(needs, path, quality)


def _apply(lm: Any, arrays: dict[str, Any]) -> None:
    lm.load_weights(list(arrays.items()), strict=False)


def _ignore(_name: str, _view: memoryview) -> None:
    """No copy is wanted."""


def _as_known(error: RuntimeError, weights: Path) -> MoshidError:
    text = str(error)
    if "alloc" in text.lower() or "memory" in text.lower():
        return ModelOutOfMemory(f"no memory for the weights of {weights.name}")
    return BadCheckpoint(f"{weights.name} cannot be loaded: {text.splitlines()[0]}")
