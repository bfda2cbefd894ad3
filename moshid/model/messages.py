"""What the daemon and the model worker say to each other. Owns the parameters and answers.

Both sides use these structs; imports nothing numerical. Events of the worker: ``progress
{stage, fraction}``, ``text`` (TextEvent), ``stats`` (Stats) about once a second of talk, and
``talk_ended`` (TalkEnded).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from moshid.errors import InvalidParams

Quality = Literal["bf16", "q8", "q4"]
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
TopK = Annotated[int, msgspec.Meta(ge=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

BENCH_STEPS_MAX = 2000

EndReason = Literal["end", "eof", "stopped", "replaced", "bad_frame", "not_reading", "failed"]
"""Why a talk's frames ended: an END frame, the other side's end of file, ``talk_stop``, a new talk
of the same session, frames that make no sense, a peer that takes no answers, a failed step."""


class LoadParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``load``. ``config`` None: Moshi v0.1."""

    config: str | None
    weights: str
    tokenizer: str
    quality: Quality
    seed: Seed = 0


class Percentiles(msgspec.Struct, frozen=True):
    """Of step times, in milliseconds."""

    p50: float
    p95: float
    p99: float


class Loaded(msgspec.Struct, frozen=True):
    """Answer of ``load``."""

    load_s: float
    warmup_s: float
    memory_bytes: int
    codebooks_user: int
    codebooks_model: int
    delay_frames: int
    text_vocab: int
    quality: Quality
    step_ms: Percentiles


class TalkParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a talk's tokens are drawn, by the field's names."""

    seed: Seed
    text_temperature: Temperature = 0.8
    text_top_k: TopK = 25
    audio_temperature: Temperature = 0.8
    audio_top_k: TopK = 250


class TalkRequest(TalkParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of ``talk``, which comes with one descriptor."""

    session: str
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class TextEvent(msgspec.Struct, frozen=True):
    """A word piece that the model said in answer to ``frame``."""

    session: str
    frame: int
    token: int
    piece: str


class Stats(msgspec.Struct, frozen=True):
    """Answer of ``status``, and the event ``stats``. Step times are those of the last steps."""

    step_ms: Percentiles | None
    frames: int
    memory_bytes: int
    last_step_age_s: float | None


class TalkEnded(msgspec.Struct, frozen=True):
    """The frames of a talk ended."""

    session: str
    frames: int
    reason: EndReason


class BenchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``bench``."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=BENCH_STEPS_MAX)] = 100


class BenchTimes(Percentiles, frozen=True):
    """Percentiles and the extremes, in milliseconds."""

    min: float
    max: float


class BenchResult(msgspec.Struct, frozen=True):
    """Answer of ``bench``. ``realtime``: the 99th percentile is within the frame's 80 ms."""

    steps: int
    step_ms: BenchTimes
    budget_ms: float
    realtime: bool
    memory_bytes: int


StructT = TypeVar("StructT", bound=msgspec.Struct)


def parse(params: dict[str, Any], kind: type[StructT]) -> StructT:
    """``params`` as a struct.

    Raises:
        InvalidParams: a parameter is missing, unknown, of the wrong type or out of range.
    """
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as e:
        raise InvalidParams(str(e)) from e


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as a JSON object."""
    built: dict[str, Any] = msgspec.to_builtins(struct)
    return built
