"""Sound files that do not say how long they are, or say it wrong: of pipes, and of crashes."""

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
from moshid.errors import BadAudioFile

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


def flac(total: int | None = None) -> bytes:
    """``total``: what its header tells, if not what is right."""
    file = io.BytesIO()
    soundfile.write(file, noise(), SAMPLE_RATE, format="FLAC")
    data = bytearray(file.getvalue())
    if total is not None:
        data[21:26] = (0xF << 36 | total).to_bytes(5, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("total", "seconds"),
    [(0, None), (1, 0.0), (12_000, 0.5), (47_999, 2.0), (480_000, 20.0), (2**36 - 1, 2863311.531)],
)
def test_a_flac_is_read_to_its_end_whatever_length_it_says(
    tmp_path: Path, total: int, seconds: float | None
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac(total))
    found, told = read_all(path)
    assert len(found) == len(noise())
    assert np.abs(found - noise()).max() < 2**-14
    assert told == seconds


TAG = b"TAG" + bytes(125)
COVER = np.random.default_rng(1).bytes(40_000)


@pytest.mark.parametrize(("total", "behind"), [(None, TAG), (None, COVER), (12_000, TAG)])
def test_what_stands_behind_a_flac_is_no_sound_and_no_fault(
    tmp_path: Path, total: int | None, behind: bytes
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac(total) + behind)
    found, _ = read_all(path)
    whole = len(noise()) if total is None else len(noise()) - 4096
    assert whole <= len(found) <= len(noise())


def test_a_flac_that_says_no_length_ends_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac(0)[:-5_000])
    found, _ = read_all(path)
    assert len(noise()) - 3 * 4096 <= len(found) < len(noise())
    assert np.abs(found - noise()[: len(found)]).max() < 2**-14


def test_damage_in_the_midst_of_a_flac_is_told_whatever_length_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    for total in (None, 0, 12_000):
        data = flac(total)
        path.write_bytes(data[:40_000] + bytes(50) + data[40_050:])
        with pytest.raises(BadAudioFile, match="cannot be read on"):
            read_all(path)
