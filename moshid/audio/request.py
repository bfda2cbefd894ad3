"""The parameters of the audio worker's methods, checked. Owns their defaults and combinations.

Both sides use these; it imports no sound library, since the daemon's process loads none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from moshid.errors import InvalidParams

Positive = Annotated[float, msgspec.Meta(gt=0)]
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


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``start``: run this session; files replace devices."""

    session: str
    epoch: int = 0
    input: str | int | None = None
    output: str | int | None = None
    in_file: str | None = None
    out_file: str | None = None
    fast: bool = False
    seconds: Positive | None = None
    delay_frames: Natural = 0
    engine: Literal["moshi", "echo"] = "moshi"
    record: str | None = None
    echo_cancel: bool = True

    def __post_init__(self) -> None:
        if self.record is not None:
            raise ValueError("recording is not built yet: leave `record` out")
        if self.fast and (self.in_file is None or self.out_file is None):
            raise ValueError("`fast` needs both an input file and an output file")


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
