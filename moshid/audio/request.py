"""The parameters of the audio worker's methods, checked. Owns their defaults and combinations.

Both sides use these; it imports no sound library, since the daemon's process loads none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from moshid.errors import InvalidParams

Positive = Annotated[float, msgspec.Meta(gt=0)]
Volume = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]
"""A factor on the samples: 1.0 as they come, 2.0 twice as large (6 dB)."""

Natural = Annotated[int, msgspec.Meta(ge=0)]


class CodecSpec(msgspec.Struct, frozen=True):
    """Which codec, from which files. ``config`` is needed for ``mlx_mimi`` only."""

    kind: Literal["rustymimi", "mlx_mimi"]
    weights: str
    codebooks: int
    config: str | None = None


class Prepare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``prepare``: build and warm this codec."""

    codec: CodecSpec


class ControlChanges(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``set``: what a user changes in a running session; what is None stays as it is."""

    muted: bool | None = None
    push_to_talk: bool | None = None
    talking: bool | None = None
    volume: Volume | None = None
    paused: bool | None = None


class RecordTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a talk is recorded, and how much room it may take."""

    path: str
    """Of the WAV, absolute; its folder is made."""
    max_bytes: Natural = 2**32
    min_free_bytes: Natural = 0

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError("`record` has to be an absolute path")


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``start``: run this session; files replace devices."""

    session: str
    epoch: int = 0
    input: str | int | None = None
    output: str | int | None = None
    exact: bool = False
    """Whether a device's name is all of ``name, host API``: it is one that was open before."""
    in_file: str | None = None
    out_file: str | None = None
    fast: bool = False
    seconds: Positive | None = None
    delay_frames: Natural = 0
    engine: Literal["moshi", "echo"] = "moshi"
    sound_check: bool = False
    """With the engine echo: chirps first, then the microphone much later, and a verdict."""
    record: RecordTo | None = None
    controls: ControlChanges = msgspec.field(default_factory=ControlChanges)
    """As they were, where this session takes over from another process's."""
    pause_s_max: Annotated[float, msgspec.Meta(ge=0)] = 3600.0
    """A talk that is paused for longer ends; 0 is without limit."""
    echo_cancel: bool | Literal["auto"] = "auto"
    noise_suppression: bool = False
    auto_gain: bool = False
    first_frame: Natural = 0
    """Where the count of frames goes on: this session takes over from another process's."""
    zeros_known: bool = False
    """Whether the microphone was opened again already because it gave nothing but zeros."""
    patience_s: Positive = 0.8
    """How long a device may say nothing before it counts as gone."""

    def __post_init__(self) -> None:
        if self.fast and (self.in_file is None or self.out_file is None):
            raise ValueError("`fast` needs both an input file and an output file")


class Find(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``find``: see whether the devices of such a session are there."""

    input: str | int | None = None
    output: str | int | None = None
    in_file: str | None = None
    out_file: str | None = None


class Rejoin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``rejoin``: a new model answers from here on."""

    epoch: int


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stop``: end the session."""

    session: str | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


P = TypeVar("P", bound=msgspec.Struct)


def parse(params: dict[str, Any], kind: type[P]) -> P:
    """``params`` as ``kind``.

    Raises:
        InvalidParams: wrong type, unknown name, or a combination that makes no sense.
    """
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as e:
        raise InvalidParams(str(e)) from e
