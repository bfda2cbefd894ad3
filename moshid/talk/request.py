"""What a client asks of a talk: typed, checked, and split into what each worker takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from moshid.errors import InvalidParams

TEXT_TOP_K: Final = 25
AUDIO_TOP_K: Final = 250
TEMPERATURE: Final = 0.8

Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=5.0)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class TalkRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a client asks for. Paths are absolute; the audio worker opens them."""

    model: Text | None = None
    quality: Literal["auto", "bf16", "q8", "q4"] = "auto"
    input: Text | int | None = None
    output: Text | int | None = None
    in_file: Text | None = None
    out_file: Text | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    fast: bool = False
    record: Text | None = None
    engine: Literal["moshi", "echo"] = "moshi"
    echo_cancel: bool = True
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    text_temperature: Temperature = TEMPERATURE
    audio_temperature: Temperature = TEMPERATURE
    text_top_k: Annotated[int, msgspec.Meta(ge=1)] = TEXT_TOP_K
    audio_top_k: Annotated[int, msgspec.Meta(ge=1)] = AUDIO_TOP_K
    ensure: bool = False
    confirm: bool = False
    detach: bool = False

    def check(self) -> None:
        """What types alone cannot say.

        Raises:
            InvalidParams: a relative path, or options that exclude each other.
        """
        for name in ("in_file", "out_file", "record"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_absolute():
                raise InvalidParams(f"{name} has to be an absolute path, not {path!r}")
        if self.in_file is not None and self.input is not None:
            raise InvalidParams("in_file and input exclude each other: one source of sound only")
        if self.out_file is not None and self.output is not None:
            raise InvalidParams("out_file and output exclude each other: one sink of sound only")
        if _are_one(self.in_file, self.out_file):
            raise InvalidParams("in_file and out_file are the same file: it would be lost")
        if self.record is not None:
            raise InvalidParams("recording is not built yet: leave record out")
        if self.fast and (self.in_file is None or self.out_file is None):
            raise InvalidParams("fast needs both in_file and out_file: devices run in real time")

    def audio(self, session: str, epoch: int, *, delay_frames: int) -> dict[str, Any]:
        """What the audio worker's ``start`` takes."""
        names = ("input", "output", "in_file", "out_file", "fast", "seconds", "engine")
        chosen = {name: getattr(self, name) for name in (*names, "echo_cancel")}
        return {"session": session, "epoch": epoch, "delay_frames": delay_frames} | chosen

    def sampling(self, seed: int) -> dict[str, Any]:
        """What the model worker's ``talk`` takes, besides session and epoch."""
        names = ("text_temperature", "text_top_k", "audio_temperature", "audio_top_k")
        return {"seed": seed} | {name: getattr(self, name) for name in names}


def _are_one(a: str | None, b: str | None) -> bool:
    """Whether two paths name the same file, by links too."""
    if a is None or b is None:
        return False
    try:
        if Path(a).exists() and Path(b).exists():
            return Path(a).samefile(b)
        return Path(a).resolve() == Path(b).resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all: the audio worker says why
        return False
