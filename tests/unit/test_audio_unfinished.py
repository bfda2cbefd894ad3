"""Sound files whose writer has not said how long they are: out of pipes, and out of crashes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio.files import FileSource
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples

ALL = 0xFFFFFFFF
LIST = b"LIST" + struct.pack("<I", 15) + b"INFOISFT" + struct.pack("<I", 3) + b"us\0\0"


def noise() -> Samples:
    pcm = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)
    return pcm.astype(np.float32)


def wav(sizes: tuple[int, int], sound: bytes, *, before: bytes = b"") -> bytes:
    """``sizes``: of the whole as the file tells it, and of its data."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", sizes[0], b"WAVE")
    return head + form + before + struct.pack("<4sI", b"data", sizes[1]) + sound


def read_all(path: Path) -> tuple[Samples, float | None]:
    """The sound without the silence that fills its last frame up, and how long it says it is."""
    source = FileSource(str(path), fast=True, tail_frames=0, seconds=None)
    source.start(0)
    frames: list[Samples] = [np.zeros(0, dtype=np.float32)]
    while not source.ended:
        if (heard := source.take(0)) is not None:
            frames.append(heard.pcm)
    source.close()
    return np.trim_zeros(np.concatenate(frames), "b"), source.facts["seconds"]


@pytest.mark.parametrize("before", [b"", LIST], ids=["plain", "list"])
@pytest.mark.parametrize("behind", [b"", b"\1"], ids=["whole", "odd"])
@pytest.mark.parametrize(
    "sizes", [(0, 0), (36, 0), (ALL, 0), (0, ALL), (36, ALL), (ALL, ALL), (2**31 + 35, 2**31 - 1)]
)
def test_a_wav_without_a_length_is_read_to_its_end(
    tmp_path: Path, sizes: tuple[int, int], before: bytes, behind: bytes
) -> None:
    pcm = noise()
    path = tmp_path / "a.wav"
    path.write_bytes(wav(sizes, pcm.tobytes() + behind, before=before))
    found, seconds = read_all(path)
    assert np.array_equal(found, pcm)
    assert seconds == 2.0


@pytest.mark.parametrize(
    "data",
    [
        wav((36 + len(LIST), 0), LIST),
        wav((0, 0), b""),
        wav((0, 0), b"")[:41],
        wav((0, 0), b"\1"),
    ],
    ids=["a chunk behind it", "nothing behind it", "cut in its header", "less than a sample"],
)
def test_a_wav_without_sound_stays_without(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    found, seconds = read_all(path)
    assert len(found) == 0
    assert seconds == 0.0


def other(suffix: str, *, size_at: int, behind: bytes = b"", **sizes: bytes) -> bytes:
    """What libsndfile writes, with other bytes where that counts; ``riff``, of an RF64."""
    file = io.BytesIO()
    soundfile.write(file, noise(), SAMPLE_RATE, format=suffix, subtype="FLOAT")
    data = bytearray(file.getvalue()) + behind
    if suffix == "CAF":
        size_at += data.index(b"data")
    for at, told in ((20, sizes.get("riff", b"")), (size_at, sizes["data"])):
        data[at : at + len(told)] = told
    return bytes(data)


PIECES = b"info" + struct.pack(">q", 6) + b"\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "data",
    [
        other("CAF", size_at=4, data=struct.pack(">q", -1)),
        other("CAF", size_at=4, data=struct.pack(">q", 0)),
        other("CAF", size_at=4, data=struct.pack(">q", 4)),
        other("RF64", size_at=28, riff=bytes(8), data=bytes(16)),
        other("RF64", size_at=28, data=bytes(8), behind=b"\1"),
        other("AU", size_at=8, data=bytes(4)),
    ],
    ids=["caf -1", "caf 0", "caf 4", "rf64 nothing", "rf64 no data", "au"],
)
def test_other_files_without_a_length_are_read_to_their_end(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.any"
    path.write_bytes(data)
    found, seconds = read_all(path)
    assert np.array_equal(found, noise())
    assert seconds == 2.0


@pytest.mark.parametrize("rest", [b"", PIECES, PIECES + PIECES])
def test_a_caf_without_sound_stays_without(tmp_path: Path, rest: bytes) -> None:
    """Chunks that end where the file does are no sound."""
    path = tmp_path / "a.caf"
    whole = other("CAF", size_at=4, data=struct.pack(">q", 4))
    path.write_bytes(whole[: whole.index(b"data") + 16] + rest)
    found, seconds = read_all(path)
    assert len(found) == 0
    assert seconds == 0.0


def test_flac_out_of_a_pipe_says_no_length_and_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(), SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    data[21:26] = b"\xf0\0\0\0\0"
    path.write_bytes(data)
    found, seconds = read_all(path)
    assert np.abs(found - noise()).max() < 2**-14
    assert seconds is None
