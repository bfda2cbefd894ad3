"""What a rescue looks for: numbered pieces, holes and zeros, donors by name and size, suspects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.downloads import written
from moshid.downloads.donors import Donor, Part, Wanted, check_sources, in_cache, named
from moshid.downloads.numbered import USUAL_BYTES, ways
from moshid.downloads.plan import split
from moshid.downloads.suspects import BATCH_MIN, RESCUED, next_suspects
from moshid.errors import InvalidParams
from tests.fakes.repos import content

ETAG = "ab" * 32
SIZE = 1_000_000
WANTED = Wanted(ETAG, SIZE, ("model.safetensors",))
ZEROS = written.ZEROS_MIN


@given(st.integers(2, 40), st.integers(1, 100), st.integers(0, 1), st.data())
def test_numbered_pieces_are_put_where_they_belong(
    count: int, last: int, first: int, data: st.DataObject
) -> None:
    total = 100 * (count - 1) + last
    sizes = {f"model.part{i + first}": 100 for i in range(count - 1)}
    sizes[f"model.part{count - 1 + first}"] = last
    lost = data.draw(st.sets(st.sampled_from(sorted(sizes)), max_size=count - 2))
    kept = {n: s for n, s in sizes.items() if n not in lost}
    right = {n: (int(n[10:]) - first) * 100 for n in kept}
    tells = 100 in kept.values()  # no piece of the common size is left otherwise
    assert not tells or right in ways(kept, total)


def test_the_likeliest_way_is_tried_first() -> None:
    assert ways({"a_0000": 50, "a_0001": 50, "a_0002": 7}, 107)[0]["a_0002"] == 100
    assert ways({"a-1": 50, "a-10": 50, "a-2": 50, "note": 3}, 5000)[0] == {
        "a-1": 0,
        "a-2": 50,
        "a-10": 450,
    }
    assert ways({"v2_chunk_1_of_3": 50, "v2_chunk_3_of_3": 7}, 107)[0]["v2_chunk_3_of_3"] == 100
    lone = ways({"c7": 49_000_000}, 15_000_000_000)
    assert {way["c7"] // 7 for way in lone} >= set(USUAL_BYTES)
    assert ways({"a1": 50, "a2": 60}, 80) == []
    assert ways({}, 80) == []


@pytest.mark.parametrize("zeros_first", [0, 30_000, 70_001])
def test_what_was_not_written_is_not_read(tmp_path: Path, zeros_first: int) -> None:
    data = content(200_000)
    file = tmp_path / "f"
    file.write_bytes(data + bytes(zeros_first + ZEROS) + data)
    fd = os.open(file, os.O_RDONLY)
    try:
        assert written.read(fd, 0, 10**9) == data
        assert written.read(fd, 0, 200_010) == data, "zeros beyond what is asked for count, too"
        assert written.read(fd, 200_000, 10**9) == b""
        assert written.read(fd, 0, 10**9, zeros=True) == file.read_bytes()
        assert written.read(fd, 10**9, 2 * 10**9) == b""
    finally:
        os.close(fd)


def test_a_few_zeros_are_content_and_a_hole_is_not(tmp_path: Path) -> None:
    data, gap = content(100_000), 1 << 20
    file = tmp_path / "f"
    with file.open("wb") as out:
        out.write(data + bytes(ZEROS - 1) + b"\1" + bytes(100))
        out.seek(gap, os.SEEK_CUR)
        out.write(data)
    fd = os.open(file, os.O_RDONLY)
    try:
        assert written.read(fd, 0, 10**9) == data + bytes(ZEROS - 1) + b"\1"
        start = file.stat().st_size - len(data)
        assert written.read(fd, start, 10**9) == data
        assert written.read(fd, start - 5000, 10**9) == b"" or os.name != "posix"
    finally:
        os.close(fd)


def test_the_cache_is_looked_through(tmp_path: Path) -> None:
    blobs = [tmp_path / f"models--org--{n}" / "blobs" for n in ("a", "b")]
    names = [ETAG, f"{ETAG}.incomplete", f"{ETAG}.1234abcd.incomplete", "cd" * 32]
    for folder in blobs:
        folder.mkdir(parents=True)
        for i, name in enumerate(names):
            (folder / name).write_bytes(b"x" * (SIZE - 1000 * i))
    found = in_cache(tmp_path, blobs[0] / ETAG, WANTED)
    assert [(d.path.parent.parent.name[-1], d.path.name, d.whole) for d in found] == [
        ("b", names[0], True),
        ("a", names[1], False),
        ("b", names[1], False),
        ("a", names[2], False),
        ("b", names[2], False),
    ]


def test_named_files_and_folders_are_looked_through(tmp_path: Path) -> None:
    def put(name: str, size: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        return path

    whole = put("d/deep/other-name", SIZE)
    begun = put("d/model.safetensors.crdownload", 700_000)
    ours = put(f"d/.locks/moshid/{ETAG}.part", SIZE)
    put("d/large", SIZE + 1)
    put("d/model.safetensors.tiny", 100)
    for i in range(3):
        put(f"pieces/chunk_{i:04}", 300_000)
    (tmp_path / "fifo").parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "d" / "model.safetensors.fifo")
    found = named([tmp_path / "d", tmp_path / "pieces", begun], WANTED)
    assert [(d.path, d.whole) for d in found if len(d.parts) == 1] == [
        (whole, True),
        (ours, False),
        (begun, False),
        (begun, False),
    ]
    [pieces] = [d for d in found if len(d.parts) > 1]
    assert [(p.path.name, p.offset) for p in pieces.parts] == [
        ("chunk_0000", 0),
        ("chunk_0001", 300_000),
        ("chunk_0002", 600_000),
    ]


def test_a_donor_knows_its_parts() -> None:
    parts = (Part(Path("a"), 0, 10), Part(Path("c"), 20, 10))
    donor = Donor(Path("d"), parts)
    assert [donor.part_at(at) for at in (0, 9, 10, 19, 20, 30)] == [
        *(parts[0], parts[0], None, None),
        *(parts[1], None),
    ]


@pytest.mark.parametrize("path", ["relative", "~/x", "/no/such", "/dev/null", "/a\0b"])
def test_bad_sources_are_refused(path: str) -> None:
    with pytest.raises(InvalidParams, match="from") as caught:
        check_sources([path])
    assert ("starting with /" in caught.value.hint) == ("absolute" in caught.value.message)
    assert ("absolute" in caught.value.message) == (path[0] != "/" or "\0" in path)


def test_sources_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert check_sources([f"{tmp_path}/./f", str(tmp_path)]) == [tmp_path / "f", tmp_path]


def test_suspects_come_in_growing_batches_the_rescued_first() -> None:
    chunks = split(100, 1)
    for chunk in chunks[10:90]:
        chunk.suspicion = RESCUED
    chunks[89].suspicion += 1
    chunks[3].suspicion = 2
    tried: set[int] = set()
    batches = []
    while batch := next_suspects(chunks, tried):
        batches.append([c.index for c in batch])
        tried |= set(batches[-1])
    assert batches[0] == [89, 10, 11, 12]
    sizes = [len(b) for b in batches]
    assert sizes[:10] == [BATCH_MIN] * 10
    assert sizes[10:14] == [5, 5, 6, 7], "an eighth of all before"
    [odd] = [i for i, batch in enumerate(batches) if batch == [3]]
    assert sum(sizes[:odd]) == 80, "the rescued come first, alone"
    assert sorted(i for batch in batches for i in batch) == list(range(100))


@given(st.lists(st.integers(0, 3) | st.just(RESCUED), min_size=1, max_size=200))
def test_every_chunk_becomes_a_suspect_once_the_odd_ones_first(suspicions: list[int]) -> None:
    chunks = split(len(suspicions) * 10, 10)
    for chunk, suspicion in zip(chunks, suspicions, strict=True):
        chunk.suspicion = suspicion
    tried: set[int] = set()
    order: list[int] = []
    while batch := next_suspects(chunks, tried):
        assert tried.isdisjoint(c.index for c in batch)
        tried |= {c.index for c in batch}
        order += [c.suspicion for c in batch]
    assert order == sorted(suspicions, reverse=True)
