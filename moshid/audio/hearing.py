"""From the microphone's sound to what the model hears of it. Owns what stands in between.

Echo cancelling is on where microphone and speaker share a room, noise suppression and automatic
gain are on when asked for; each that is off costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

from moshid.audio import webrtc
from moshid.audio.devices import Heard, Sink, Source
from moshid.audio.echo import FAR_SAMPLES, EchoCanceller
from moshid.audio.frames import samples_ns
from moshid.audio.headphones import are_headphones
from moshid.audio.reference import Reference, Tapped
from moshid.audio.ring import Samples

T = TypeVar("T")
Choice = bool | Literal["auto"]
Why = Literal["room", "asked", "headphones", "files"]
"""``room``: they share one, as far as can be told. ``asked``: somebody said so."""

NO_LIBRARY: Final = (
    "pywebrtc-audio cannot be loaded, so only the estimated echo is subtracted; noise suppression "
    "and automatic gain are off"
)


class Wish(Protocol):
    """What a session was asked for."""

    @property
    def echo_cancel(self) -> Choice:
        """On, off, or by the devices."""

    @property
    def noise_suppression(self) -> bool:
        """Whether steady noise is taken out."""

    @property
    def auto_gain(self) -> bool:
        """Whether the voice is brought to an even level."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether echo is cancelled, and why."""

    on: bool
    why: Why


def decide(choice: Choice, source: dict[str, Any], sink: dict[str, Any]) -> Decision:
    """By the facts of both ends: with a file at one there is no echo."""
    if "file" in source or "file" in sink:
        return Decision(False, "files")
    if choice != "auto":
        return Decision(choice, "asked")
    if are_headphones(str(sink.get("name", ""))):
        return Decision(False, "headphones")
    return Decision(True, "room")


class Hearing:
    """``hear`` each frame, then ``learn`` from it when nothing else is to be done."""

    def __init__(self, wish: Wish, source: Source, sink: Sink) -> None:
        """Taps ``sink``, when there is echo to be expected from it."""
        self.warning: str | None = None
        """What the user should know: what was asked for and cannot be had."""
        self._decision = decide(wish.echo_cancel, source.facts, sink.facts)
        self._wish = wish
        self._polish = self._open_polish()
        self._suppressor: webrtc.EchoSuppressor | None = None
        self._canceller: EchoCanceller | None = None
        self._reference = Reference()
        if self._decision.on:
            self._suppressor = self._load(webrtc.EchoSuppressor)
            self._canceller = EchoCanceller(self._suppressor)
            if isinstance(sink, Tapped):
                sink.tap = self._reference.write

    @property
    def delay_ns(self) -> int:
        """By how much a frame's sound comes later than it was captured."""
        parts = (self._suppressor, self._polish)
        return samples_ns(sum(part.delay for part in parts if part is not None))

    def hear(self, heard: Heard) -> Samples:
        """A frame, or the half of it that is next, without echo and noise: float32 [n]."""
        pcm = heard.pcm
        if self._canceller is not None:
            far = self._reference.read(heard.position + len(pcm), FAR_SAMPLES)
            pcm = self._canceller.process(pcm, far)
        return pcm if self._polish is None else self._polish.process(pcm)

    def learn(self) -> None:
        """Take the last frame as a lesson about the room."""
        if self._canceller is not None:
            self._canceller.learn()

    def facts(self) -> dict[str, Any]:
        """``echo_cancel`` and ``echo``, as ``talk.status`` has them."""
        echo: dict[str, Any] = {
            "why": self._decision.why,
            "suppressor": self._suppressor is not None,
            "noise_suppression": self._wish.noise_suppression and self._polish is not None,
            "auto_gain": self._wish.auto_gain and self._polish is not None,
        }
        if self._canceller is not None:
            echo |= self._canceller.facts
        return {"echo_cancel": self._decision.on, "echo": echo}

    def _open_polish(self) -> webrtc.Polish | None:
        noise, gain = self._wish.noise_suppression, self._wish.auto_gain
        if not (noise or gain):
            return None
        return self._load(lambda: webrtc.Polish(noise_suppression=noise, auto_gain=gain))

    def _load(self, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except ImportError as e:
            self.warning = f"{NO_LIBRARY} ({e})"
            return None
