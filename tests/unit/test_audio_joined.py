"""Ogg files of several links, as joined files and recorded stations are, are heard to their end."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio.files import FileSource
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile

HERTZ = (400, 800, 1200)
LINK_S = 2


def link(hertz: int, subtype: str, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    """Two seconds of a tone."""
    t = np.arange(LINK_S * rate) / rate
    pcm = np.tile(0.5 * np.sin(2 * np.pi * hertz * t)[:, None], channels)
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format="OGG", subtype=subtype)
    return file.getvalue()


def read_all(path: Path, seconds: float | None = None) -> tuple[Samples, dict[str, object]]:
    source = FileSource(str(path), fast=True, tail_frames=0, seconds=seconds)
    source.start(0)
    frames: list[Samples] = []
    while not source.ended:
        if (heard := source.take(0)) is not None:
            frames.append(heard.pcm)
    source.close()
    return np.concatenate(frames), source.facts


def loudest_hertz(pcm: Samples, at_s: float) -> float:
    """In the half second from there on."""
    begin = round(at_s * SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(pcm[begin : begin + SAMPLE_RATE // 2]))
    return 2.0 * float(spectrum.argmax())


def links(*subtypes: str) -> list[bytes]:
    rates, channels = (SAMPLE_RATE, 48_000, 16_000), (1, 2, 1)
    parts = zip(HERTZ, subtypes, rates, channels, strict=True)
    return [link(*part) for part in parts]


@pytest.mark.parametrize("between", [b"", b"no page, but a few bytes"])
@pytest.mark.parametrize(
    "subtypes",
    [("VORBIS", "VORBIS", "VORBIS"), ("OPUS", "OPUS", "OPUS"), ("OPUS", "VORBIS", "OPUS")],
)
def test_a_joined_ogg_is_heard_to_its_end(
    tmp_path: Path, subtypes: tuple[str, ...], between: bytes
) -> None:
    """Each link has a rate and channels of its own."""
    path = tmp_path / "a.ogg"
    path.write_bytes(between.join(links(*subtypes)))
    pcm, facts = read_all(path)
    assert len(pcm) / SAMPLE_RATE == pytest.approx(3 * LINK_S, abs=0.08)
    heard = [loudest_hertz(pcm, at_s + 0.5) for at_s in (0, LINK_S, 2 * LINK_S)]
    assert heard == pytest.approx(HERTZ, abs=2)
    assert (facts["rate"], facts["channels"], facts["seconds"]) == (SAMPLE_RATE, 1, None)


def test_a_file_joined_to_itself_is_heard_twice(tmp_path: Path) -> None:
    """Both links have the same serial number then, which the format forbids."""
    path = tmp_path / "a.ogg"
    path.write_bytes(2 * link(400, "VORBIS"))
    pcm, _ = read_all(path)
    assert len(pcm) / SAMPLE_RATE == pytest.approx(2 * LINK_S, abs=0.08)
    assert loudest_hertz(pcm, LINK_S + 0.5) == pytest.approx(400, abs=2)


def test_seconds_end_it_in_a_later_link(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    path.write_bytes(b"".join(links("OPUS", "OPUS", "OPUS")))
    pcm, _ = read_all(path, seconds=3.0)
    assert len(pcm) / SAMPLE_RATE == pytest.approx(3.0, abs=0.08)


def test_a_link_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    spoilt = link(800, "VORBIS").replace(b"vorbis", b"bisvor")
    path.write_bytes(link(400, "VORBIS") + spoilt)
    with pytest.raises(BadAudioFile, match="cannot be read on"):
        read_all(path)


def test_one_without_a_beginning_is_refused_in_the_library_s_words(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    whole = link(400, "VORBIS")
    path.write_bytes(whole[whole.index(b"OggS", 1) :])
    with pytest.raises(BadAudioFile, match="no sound file that can be read: Error opening"):
        read_all(path)
