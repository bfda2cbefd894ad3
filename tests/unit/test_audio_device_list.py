"""Which device is meant by a name, and that a name that cannot be read hides no other device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moshid.audio.device_list import Device, choose
from moshid.checks.hardware import SOUND_PROBE

ALSA_CONF = Path("/usr/share/alsa/alsa.conf")


def device(index: int, name: str, *, default: bool = False) -> Device:
    return Device(index, name, "Core Audio", 1, 48_000.0, default)


DEVICES = [
    device(0, "MacBook Pro Microphone", default=True),
    device(3, "Zoe\u2019s AirPods"),
    device(4, "Kopfh\u00f6rer-1"),
    device(5, "USB"),
    device(7, "USB Audio"),
    device(8, "USB Audio"),
    device(9, "usb audio"),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 0),
        (3, 3),
        ("3", 3),
        ("airpods", 3),
        ("Zoe's AirPods", 3),
        ("Zoe\u2019s AirPods", 3),
        ("Kopfh\u00f6rer", 4),
        ("KOPFHO\u0308RER", 4),
        ("usb", 5),
        ("USB Audio", 7),
        ("usb audio", 9),
        ("core audio", 0),
        (99, None),
        (-1, None),
        ("-1", 4),
        (" ", None),
        ("USB Audio 2", None),
    ],
)
def test_a_device_is_meant_by_its_letters(wanted: str | int | None, index: int | None) -> None:
    """Of two with one name the first: an index tells them apart."""
    found = choose(DEVICES, wanted)
    assert (None if found is None else found.index) == index


def test_a_device_that_is_waited_for_is_not_one_whose_name_ends_alike() -> None:
    """``Microphone`` was opened and is away; the built-in one stays shut."""
    there = [device(0, "MacBook Pro Microphone", default=True), device(1, "Microphone 2")]
    assert choose(there, "Microphone, Core Audio", exact=True) is None
    back = device(2, "Microphone")
    assert choose([*there, back], "Microphone, Core Audio", exact=True) is back
    assert choose(there, None, exact=True) is there[0], "the default is the default"


LIST = """
import json
from moshid.audio.device_list import list_devices
print(json.dumps({f"{way}s": [d.name for d in list_devices(way)] for way in ("input", "output")}))
"""


@pytest.mark.skipif(not ALSA_CONF.exists(), reason="wants ALSA")
@pytest.mark.parametrize("program", [LIST, SOUND_PROBE], ids=["the worker", "doctor"])
def test_a_name_that_is_no_utf_8_hides_no_other_device(tmp_path: Path, program: str) -> None:
    config = tmp_path / "asoundrc"
    names = (b"one", b"caf\xe9", b"two")
    pcms = b"".join(b'pcm."%s" { type null }\n' % name for name in names)
    config.write_bytes(b"<%s>\n%s" % (bytes(ALSA_CONF), pcms))
    private = {"ALSA_CONFIG_PATH": str(config), "JACK_NO_START_SERVER": "1"}
    private["JACK_DEFAULT_SERVER"] = "there-is-none"
    out = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | private,
        capture_output=True,
        check=True,
    ).stdout
    found = json.loads(out)
    assert {"one", "two"} <= set(found["inputs"])
    assert {"one", "two"} <= set(found["outputs"])
