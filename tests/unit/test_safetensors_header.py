"""Headers of safetensors files: what is taken, and that nothing bad passes or escapes otherwise."""

from __future__ import annotations

import itertools
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.errors import BadCheckpoint
from moshid.model import safetensors_header
from moshid.model.safetensors_header import ITEM_BYTES, TensorFacts, pack, parse, read


def entry(shape: Any = (2, 3), offsets: Any = (0, 12), dtype: Any = "BF16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_what_mlx_writes_is_read_in_the_order_of_its_data(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"b": mx.zeros((3, 5), mx.bfloat16), "a": mx.zeros((7,), mx.uint32)}
    mx.save_safetensors(str(path), arrays, metadata={"format": "mlx"})
    header = read(path)
    assert {n: (t.dtype, t.shape, t.size_bytes) for n, t in header.tensors.items()} == {
        "b": ("BF16", (3, 5), 30),
        "a": ("U32", (7,), 28),
    }
    offsets = [t.offset for t in header.tensors.values()]
    assert offsets == sorted(offsets)
    assert max(t.offset + t.size_bytes for t in header.tensors.values()) == path.stat().st_size
    assert header.metadata == {"format": "mlx"}
    assert header.data_bytes == 58


def test_no_metadata_and_no_tensors_are_a_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "empty.safetensors", json.dumps({"a": entry((0, 4), (0, 0))}).encode(), b""
    )
    assert read(path).data_bytes == 0
    assert read(write(path, b"{}", b"")).tensors == {}


BAD: dict[str, tuple[bytes, str]] = {
    "an overlap": (json.dumps({"a": entry(), "b": entry((2,), (8, 12))}).encode(), "overlaps"),
    "a hole": (json.dumps({"a": entry(), "b": entry((2,), (14, 18))}).encode(), "leaves a hole"),
    "a hole at the front": (json.dumps({"a": entry(offsets=(4, 16))}).encode(), "leaves a hole"),
    "the same bytes twice": (json.dumps({"a": entry(), "b": entry()}).encode(), "overlaps"),
    "bytes that do not fit": (json.dumps({"a": entry((2, 4))}).encode(), "do not make BF16"),
    "another dtype's bytes": (json.dumps({"a": entry(dtype="F32")}).encode(), "do not make F32"),
    "an unknown dtype": (json.dumps({"a": entry(dtype="Q4_K")}).encode(), "unknown dtype"),
    "a dtype that is a list": (json.dumps({"a": entry(dtype=["F32"])}).encode(), "unknown dtype"),
    "a negative size": (json.dumps({"a": entry((-2, -3))}).encode(), "has the shape"),
    "a size that is true": (json.dumps({"a": entry((True, 6))}).encode(), "has the shape"),
    "a broken size": (json.dumps({"a": entry((2.0, 3))}).encode(), "has the shape"),
    "an absurd size": (json.dumps({"a": entry((2**64, 0), (0, 0))}).encode(), "has the shape"),
    "too many dimensions": (json.dumps({"a": entry([1] * 40, (0, 2))}).encode(), "has the shape"),
    "offsets backwards": (json.dumps({"a": entry(offsets=(12, 0))}).encode(), "has the offsets"),
    "three offsets": (json.dumps({"a": entry(offsets=(0, 6, 12))}).encode(), "has the offsets"),
    "no description": (b'{"a": 7}', "has no description"),
    "a name twice": (b'{"a": {}, "a": {}}', "stands in it twice"),
    "a key twice": (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "stands in it twice"),
    "not a number": (b'{"a": NaN}', "no number of JSON"),
    "no end": (b'{"a": -Infinity}', "no number of JSON"),
    "a list": (b"[1, 2]", "no JSON object"),
    "no text": (b"\xff\xfe{}", "broken"),
    "no JSON": (b"{'a': 1}", "broken"),
    "digits without end": (b'{"a": ' + b"9" * 10_000 + b"}", "broken"),
    "a deep nest": (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "broken"),
    "metadata of numbers": (b'{"__metadata__": {"a": 1}}', "metadata"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, what: str) -> None:
    text, message = BAD[what]
    with pytest.raises(BadCheckpoint, match=message):
        read(write(tmp_path / "model.safetensors", text, bytes(12)))


@pytest.mark.parametrize(
    "length", [0, 1, 2**63, 2**64 - 1, safetensors_header.HEADER_BYTES_MAX + 1]
)
def test_an_absurd_length_is_not_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(100))
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        read(path)


@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_more_or_fewer_bytes_than_the_header_says_are_refused(tmp_path: Path, change: int) -> None:
    header = json.dumps({"a": entry()}).encode()
    path = write(tmp_path / "model.safetensors", header, bytes(12 + change))
    with pytest.raises(BadCheckpoint, match="cut short or damaged"):
        read(path)


_SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
_TENSORS = st.dictionaries(
    st.text(max_size=12).filter(lambda n: n != "__metadata__"),
    st.tuples(st.sampled_from(sorted(ITEM_BYTES)), _SHAPES),
    max_size=6,
)


def described(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorFacts]:
    found = {}
    for name, (dtype, shape) in tensors.items():
        size_bytes = ITEM_BYTES[dtype]
        for length in shape:
            size_bytes *= length
        found[name] = TensorFacts(dtype, shape, size_bytes)
    return found


@given(_TENSORS, st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_what_is_packed_is_parsed(
    tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    facts = described(tensors)
    packed = pack(facts, metadata)
    assert len(packed) % 8 == 0
    found, told = parse(packed[8:])
    assert told == metadata
    plain = {n: TensorFacts(t.dtype, t.shape, t.size_bytes) for n, t in found.items()}
    assert plain == facts


@given(_TENSORS, st.data())
def test_a_damaged_file_is_refused_or_still_adds_up(
    tensors: dict[str, tuple[str, tuple[int, ...]]], data: st.DataObject
) -> None:
    """Whatever bytes change: no error but ours, and what is taken lies within the file."""
    facts = described(tensors)
    whole = bytearray(pack(facts, {}) + bytes(sum(t.size_bytes for t in facts.values())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(bytes(whole[:cut] if data.draw(st.booleans()) else whole))
        try:
            header = read(path)
        except BadCheckpoint:
            return
        size = path.stat().st_size
        spans = sorted((t.offset, t.offset + t.size_bytes) for t in header.tensors.values())
        assert all(8 <= begin <= end <= size for begin, end in spans)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(text: bytes) -> None:
    try:
        tensors, _ = parse(text)
    except ValueError:
        return
    assert all(t.size_bytes >= 0 for t in tensors.values())
