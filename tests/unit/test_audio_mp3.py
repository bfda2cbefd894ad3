"""MP3s that do not tell their length, or tell a wrong one, are heard to their end."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio.files import FileSource
from moshid.audio.frames import SAMPLE_RATE

KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
FRAME_S = 576 / SAMPLE_RATE
JUNK = np.random.default_rng(1).bytes(5000)


def encode(mode: str, level: float) -> bytes:
    """Four seconds that grow quieter, so that the bit rate falls where it may."""
    pcm = np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE)
    pcm *= np.linspace(0.5, 0.05, len(pcm)) ** 2
    file = io.BytesIO()
    form = {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    soundfile.write(file, pcm, SAMPLE_RATE, bitrate_mode=mode, compression_level=level, **form)
    return file.getvalue()


def split(data: bytes) -> list[bytes]:
    """An MP3 of 24 kHz as its frames, the first of which is a header."""
    frames = []
    while data:
        size = 72 * KBITS[data[2] >> 4] * 1000 // SAMPLE_RATE + (data[2] >> 1 & 1)
        frames.append(data[:size])
        data = data[size:]
    return frames


def picture(size: int) -> bytes:
    sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + sizes + bytes(size)


def ape(size: int) -> bytes:
    ends = [b"APETAGEX" + struct.pack("<4I8x", 2000, size, 1, flags << 28) for flags in (0xA, 0x8)]
    return ends[0] + bytes(size - 32) + ends[1]


WHOLE = encode("VARIABLE", 0.5)
BARE = b"".join(split(WHOLE)[1:])
LOW, HIGH = encode("CONSTANT", 0.95), encode("CONSTANT", 0.1)


def hear(path: Path) -> tuple[float, float | None]:
    """How long it sounds, to the last sample that is no zero; and how long it says it is."""
    source = FileSource(str(path), fast=True, tail_frames=0, seconds=None)
    source.start(0)
    frames = []
    while not source.ended:
        if (heard := source.take(0)) is not None:
            frames.append(heard.pcm)
    source.close()
    pcm = np.trim_zeros(np.concatenate(frames), "b")
    return len(pcm) / SAMPLE_RATE, source.facts["seconds"]


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (BARE, 4.0),
        (picture(100_000) + BARE, 4.0),
        (b"".join(reversed(split(BARE))), 4.0),
        (HIGH + LOW, 8.0),
        (LOW + HIGH, 8.0),
        (LOW + picture(20_000) + HIGH, 8.0),
        (HIGH + bytes(5_000) + LOW, 8.0),
        (BARE + JUNK, 4.0),
        (BARE + bytes(5_000), 4.0),
        (BARE + bytes(1_000_000), 4.0),
        (BARE + ape(50_000), 4.0),
        (BARE + b"TAG" + bytes(125), 4.0),
    ],
    ids=[
        *("changing rates", "a picture before them", "rising rates", "joined, high first"),
        *("joined, low first", "joined, a picture between", "joined, zeros between"),
        *("junk at the end", "zeros at the end", "many zeros", "an APE tag", "an old tag"),
    ],
)
def test_an_mp3_is_heard_to_its_end(tmp_path: Path, data: bytes, seconds: float) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    heard_s, said_s = hear(path)
    assert seconds - FRAME_S < heard_s < seconds + 8 * FRAME_S  # what encoders put around it
    assert said_s is None


@pytest.mark.parametrize(
    "data",
    [WHOLE, HIGH, picture(500) + picture(100_000) + WHOLE, WHOLE + ape(500) + b"TAG" + bytes(125)],
    ids=["changing rates", "one rate", "two pictures", "tags at the end"],
)
def test_a_header_that_fits_is_believed_to_the_sample(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(data)
    heard_s, said_s = hear(path)
    assert 4.0 - FRAME_S < heard_s <= 4.0
    assert said_s == 4.0


def test_an_mp3_that_begins_in_mid_frame_is_known_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(split(HIGH)[1:])[100:])
    assert 4.0 - 2 * FRAME_S < hear(path)[0] < 4.0 + 3 * FRAME_S
