"""Reading past the page cache: the same bytes, into memory that is placed for it."""

from __future__ import annotations

import itertools
import mmap
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from moshid.errors import BadCheckpoint
from moshid.model import matrices, pages, quantise, safetensors_header, weights
from moshid.model.depformer import Depformer
from moshid.model.embeddings import StreamEmbeddings
from moshid.model.file_reader import FileReader
from moshid.model.load_progress import Advance
from moshid.model.safetensors_header import ITEM_BYTES, TensorFacts
from moshid.model.tensor_memory import Allocator, placeable
from tests.fakes import small_models

CAN: bool = hasattr(os, "O_DIRECT")
"""Whether this system reads past its page cache (Linux)."""


def ignore(_advance: Advance) -> None:
    """No progress wanted."""


def cold(path: Path) -> Path:
    """``path``, whose pages are in no cache any more."""
    if sys.platform == "linux":
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def write(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, bytes]:
    """A safetensors file of random bytes, those of each tensor by name."""
    facts, data = {}, {}
    for name, (dtype, shape) in tensors.items():
        count = ITEM_BYTES[dtype]
        for n in shape:
            count *= n
        facts[name] = TensorFacts(dtype, shape, count)
        data[name] = random.Random(name).randbytes(count)
    path.write_bytes(safetensors_header.pack(facts, {}) + b"".join(data.values()))
    return data


def bits(array: Any) -> bytes:
    """What an array holds."""
    words = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[array.dtype.size]
    return bytes(memoryview(mx.contiguous(array.view(words))).cast("B"))


LARGE = {
    "a": ("BF16", (1000, 1111)),
    "b.weight": ("U32", (3000, 700)),  # more than a large page
    "c.small": ("F32", (7,)),
    "d": ("F16", (334, 1001)),
    "e.huge": ("F32", (4096, 2100)),  # more than a stretch
    "f": ("U8", (3,)),  # what comes after it is askew
    "g": ("BF16", (500, 600)),
}


@pytest.mark.parametrize("straight", [True, False])
def test_the_bytes_are_the_files(tmp_path: Path, straight: bool) -> None:
    data = write(path := tmp_path / "model.safetensors", LARGE)
    header = safetensors_header.read(cold(path))
    read = weights.read_plain(path, header, ignore, straight=straight)
    assert {n: tuple(a.shape) for n, a in read.items()} == {n: s for n, (_, s) in LARGE.items()}
    assert {n: bits(a) for n, a in read.items()} == data


def test_a_cold_file_is_read_past_the_cache_a_cached_one_from_it(tmp_path: Path) -> None:
    write(path := tmp_path / "model.safetensors", LARGE)
    with FileReader(cold(path), straight=True) as reader:
        assert reader.is_straight == CAN
    path.read_bytes()
    with FileReader(path, straight=True) as reader:
        assert not reader.is_straight
    with FileReader(cold(path)) as reader:
        assert not reader.is_straight


def test_reading_past_the_cache_leaves_the_file_out_of_it(tmp_path: Path) -> None:
    """But for the pages at the tensors' ends; a straight read would be a detour otherwise."""
    write(path := tmp_path / "model.safetensors", {"a": ("U32", (2048, 2048))})
    header = safetensors_header.read(cold(path))
    weights.read_plain(path, header, ignore, straight=True)
    with FileReader(path, straight=True) as reader:
        assert reader.is_straight == CAN


def test_placed_memory_stands_in_its_page_as_the_bytes_do_in_the_files(tmp_path: Path) -> None:
    write(path := tmp_path / "model.safetensors", LARGE)
    header = safetensors_header.read(path)
    placed = placeable(header.tensors)
    assert placed == {"a", "b.weight", "d", "e.huge"}
    memory = Allocator(header.tensors, placed)
    taken = {name: memory.take(name) for name in header.tensors}
    spans = []
    for name, t in header.tensors.items():
        assert len(taken[name].view) == t.size_bytes
        if name in placed:
            at = pages.address_of(taken[name].view)
            assert (at - t.offset) % pages.PAGE_BYTES == 0
            spans.append((at, at + t.size_bytes))
    spans.sort()
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_what_a_disk_cannot_write_by_itself_is_read_otherwise(tmp_path: Path) -> None:
    """Memory that stands askew: the system refuses it (EINVAL), as it does a file system's too
    large blocks."""
    content = random.Random(1).randbytes(5 * pages.PAGE_BYTES + 100)
    (path := tmp_path / "file").write_bytes(content)
    memory = memoryview(mmap.mmap(-1, 8 * pages.PAGE_BYTES))
    with FileReader(cold(path), straight=True) as reader:
        if reader.is_straight:
            reader._read_straight(memory[1 : 1 + len(content)], 0)
            assert bytes(memory[1 : 1 + len(content)]) == content
        for read in reader.fill(memory[3 : 3 + len(content)], 0):
            read.result()
    assert bytes(memory[3 : 3 + len(content)]) == content


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(bytes(64 * pages.PAGE_BYTES))
    memory = memoryview(mmap.mmap(-1, 80 * pages.PAGE_BYTES))
    with FileReader(cold(path), straight=True) as reader:
        reads = reader.fill(memory, 0)
        errors = [read.exception() for read in reads]
    assert [type(e) for e in errors if e is not None] == [BadCheckpoint]
    assert "became shorter" in str(errors)


@pytest.mark.parametrize("quality", ["bf16", "q4"])
def test_what_is_joined_later_does_not_keep_others_memory(quality: str) -> None:
    lm = small_models.random_lm(small_models.config())
    quantise.quantise_modules(lm, quality)
    before = dict(tree_flatten(lm.parameters()))
    StreamEmbeddings(lm)
    Depformer(lm.depformer, wide=False)
    after = dict(tree_flatten(lm.parameters()))
    joined = {name for name, array in after.items() if array is not before[name]}
    assert joined == {name for name in before if matrices.is_joined(name)}


def test_scales_become_others_and_stand_alone(tmp_path: Path) -> None:
    big = {
        "transformer.layers.0.weight": ("U32", (1024, 256)),
        "transformer.layers.0.scales": ("BF16", (4096, 64)),
        "audio_embs.0.weight": ("U32", (1024, 256)),
    }
    write(path := tmp_path / "model.safetensors", big)
    assert weights._staying(safetensors_header.read(path)) == {"transformer.layers.0.weight"}


def test_wanting_large_pages_of_little_or_nothing_is_no_fault() -> None:
    pages.want_large(memoryview(bytearray()))
    memory = memoryview(mmap.mmap(-1, 3 * pages.LARGE_BYTES))
    pages.want_large(memory[5:100])
    pages.want_large(memory)
    memory[:] = bytes(len(memory))
    assert not any(memory)
