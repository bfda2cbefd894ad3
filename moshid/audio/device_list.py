"""Which sound devices there are, and which one is meant. Owns that choice; opens nothing.

Imports PortAudio, which freezes its list when it starts: a process sees the devices of that moment.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sounddevice as sd

from moshid.errors import NoDevice

log = logging.getLogger(__name__)

Direction = Literal["input", "output"]
CHANNELS_MAX = 2
JACK = "JACK Audio Connection Kit"
ALSA = "ALSA"


@dataclass(frozen=True, slots=True)
class Device:
    """One device in one direction."""

    index: int
    name: str
    hostapi: str
    channels: int
    """How many we open: both of a stereo device, the first two of a bigger one."""
    default_rate: float
    default: bool

    @property
    def full_name(self) -> str:
        """With its host API, as it is listed and can be asked for."""
        return f"{self.name}, {self.hostapi}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def list_devices(direction: Direction) -> list[Device]:
    """Every device that can do ``direction``."""
    apis = [api["name"] for api in sd.query_hostapis()]
    default = _default_index(direction)
    return [
        Device(
            index=info["index"],
            name=info["name"],
            hostapi=apis[info["hostapi"]],
            channels=min(CHANNELS_MAX, info[f"max_{direction}_channels"]),
            default_rate=float(info["default_samplerate"]),
            default=info["index"] == default,
        )
        for info in _infos()
        if info[f"max_{direction}_channels"] > 0
    ]


def _infos() -> Iterator[dict[str, Any]]:
    """What PortAudio says of each device, but for those whose names are no UTF-8 (ALSA takes any
    bytes): sounddevice can neither tell of one nor open it, and would give no list at all."""
    for api in sd.query_hostapis():
        for index in api["devices"]:
            try:
                yield sd.query_devices(index)
            except UnicodeDecodeError as e:
                log.debug("sound device %d is left out: its name is no UTF-8: %s", index, e)


def offered() -> dict[str, list[dict[str, Any]]]:
    """``{input, output}``: all devices, JSON-ready."""
    return {
        "input": [d.to_dict() for d in list_devices("input")],
        "output": [d.to_dict() for d in list_devices("output")],
    }


def find_device(wanted: str | int | None, direction: Direction, *, exact: bool = False) -> Device:
    """The device meant by an index, a name, a part of ``name, host API``, or None for the default.

    Of several that match, an exact name wins, then the default one, then the first. Letters count,
    and not how they are written: as capitals, as one code point or two, with which apostrophe.
    With ``exact`` a name is all of ``name, host API``, to the letter.

    Raises:
        NoDevice: none matches; the hint lists those there are.
    """
    devices = list_devices(direction)
    found = choose(devices, wanted, exact=exact)
    if found is None:
        raise _no_device(wanted, direction, devices)
    return found


def choose(
    devices: list[Device], wanted: str | int | None, *, exact: bool = False
) -> Device | None:
    """Which of them is meant, as ``find_device`` has it. Pure."""
    if exact and isinstance(wanted, str):
        return next((d for d in devices if d.full_name == wanted), None)
    matching = [d for d in devices if _matches(d, wanted)]

    def rank(device: Device) -> tuple[bool, bool, bool, int]:
        names = (device.name, device.full_name)
        alike = [_plain(name) == _plain(str(wanted)) for name in names]
        return wanted in names, any(alike), device.default, -device.index

    return max(matching, key=rank, default=None)


def is_one_clock(input_: Device, output: Device) -> bool:
    """Whether both are the two sides of one device, or of one server that keeps one clock.

    ALSA's names for a sound server (``pulse``, ``default``) may be two devices in truth; only its
    names for hardware tell.
    """
    if input_.hostapi == output.hostapi == JACK:
        return True
    return input_.index == output.index and (input_.hostapi != ALSA or "(hw:" in input_.name)


def _matches(device: Device, wanted: str | int | None) -> bool:
    if wanted is None:
        return device.default
    text = _plain(str(wanted))
    if isinstance(wanted, int) or text.isdecimal():
        return device.index == int(text)
    return text != "" and text in _plain(device.full_name)


def _plain(text: str) -> str:
    """Apple's names have a typographic apostrophe, which no key types: Zoe's AirPods."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return unicodedata.normalize("NFKC", plain.casefold()).strip()


def _default_index(direction: Direction) -> int:
    """The system's default, else the first host API's that has one."""
    key = f"default_{direction}_device"
    indices = [sd.default.device[direction], *(api[key] for api in sd.query_hostapis())]
    return next((index for index in indices if index >= 0), -1)


def _no_device(wanted: str | int | None, direction: Direction, devices: list[Device]) -> NoDevice:
    if not devices:
        return NoDevice(f"there is no sound {direction} at all")
    names = "; ".join(f"{d.index}: {d.name}, {d.hostapi}" for d in devices)
    missing = "default" if wanted is None else repr(wanted)
    return NoDevice(f"there is no sound {direction} {missing}", hint=f"Choose one of {names}.")
