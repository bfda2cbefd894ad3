"""What the daemon and the model worker say to each other. Owns the parameters and answers.

Both sides use these structs; imports nothing numerical. Events of the worker: ``progress
{stage, fraction, bytes_done, bytes_total, layers_done, layers_total}``, ``quantised`` (Kept),
``text`` (TextEvent), ``stats`` (Stats) about once a second of talk, ``talk_ended`` (TalkEnded),
and ``fault {message, kind, hint, ...}``, after which it ends itself.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from moshid.errors import InvalidParams
from moshid.model.engine import REPETITION_WINDOW_MAX

Quality = Literal["bf16", "q8", "q4"]
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
TopK = Annotated[int, msgspec.Meta(ge=0)]
TopP = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
Penalty = Annotated[float, msgspec.Meta(gt=0.0, le=10.0)]
Window = Annotated[int, msgspec.Meta(ge=1, le=REPETITION_WINDOW_MAX)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

BENCH_STEPS_MAX = 2000

STEP_ACTIVITY: Final = "a step"
"""What a pong says while a step is computed; the watchdog looks for it."""

WAKING_ACTIVITY: Final = "a step after a long rest"
"""The same for one whose memory the system may have to bring back first: it may take longer."""

FAULT_EXIT_CODE: Final = 70
"""Of a worker that found its model sick and said so (EX_SOFTWARE)."""

EndReason = Literal["end", "eof", "stopped", "replaced", "bad_frame", "not_reading"]
"""Why a talk's frames ended: an END frame, the other side's end of file, ``talk_stop``, a new talk
of the same session, frames that make no sense, a peer that takes no answers. A sick model is none
of these: the process ends, and the talk goes on with the next one."""


class LoadParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``load``. ``config`` None: Moshi v0.1. ``store``: the folder of quantised copies."""

    config: str | None
    weights: str
    tokenizer: str
    quality: Quality
    seed: Seed = 0
    store: str | None = None


class Percentiles(msgspec.Struct, frozen=True):
    """Of step times, in milliseconds."""

    p50: float
    p95: float
    p99: float


class LastStep(msgspec.Struct, frozen=True):
    """The last real step that succeeded: when (RFC 3339, UTC), and the milliseconds it took."""

    at: str
    ms: float


class Fault(msgspec.Struct, frozen=True):
    """What a process of the model ended of: when (RFC 3339, UTC), the error's kind, its text."""

    at: str
    kind: str
    message: str


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
    last_step: LastStep | None = None


class Kept(msgspec.Struct, frozen=True):
    """Event ``quantised``: a copy of the quantised weights is durable, or why there is none."""

    path: str
    size_bytes: int
    error: str | None


class TalkParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a talk's tokens are drawn, by the field's names."""

    seed: Seed
    text_temperature: Temperature = 0.8
    text_top_k: TopK = 25
    audio_temperature: Temperature = 0.8
    audio_top_k: TopK = 250
    text_top_p: TopP = 1.0
    audio_top_p: TopP = 1.0
    text_repetition_penalty: Penalty = 1.0
    text_repetition_window: Window = 64


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
    last_step: LastStep | None = None


class TalkEnded(msgspec.Struct, frozen=True):
    """The frames of a talk ended."""

    session: str
    frames: int
    reason: EndReason


class BenchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``bench``. ``floor``: how fast memory is, too. ``compare``: upstream's LmGen beside ours.
    ``trace``: each step's time."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=BENCH_STEPS_MAX)] = 100
    floor: bool = False
    compare: bool = False
    trace: bool = False


class BenchTimes(Percentiles, frozen=True):
    """Percentiles and the extremes, in milliseconds."""

    min: float
    max: float


class Bandwidth(msgspec.Struct, frozen=True):
    """What the steps read, and how fast. ``step_bytes`` is the mean over the steps run, weights and
    cache; ``full_step_bytes`` with a full cache. ``needed_bps`` is for one such step a frame;
    ``reached_bps`` that of the median step. ``machine_bps`` is what one pass over memory reached
    in the same run, and ``floor_ms`` how long ``step_bytes`` take at that speed; None if not asked
    for, or if there was no memory to measure it."""

    weights_bytes: int
    step_bytes: int
    full_step_bytes: int
    reached_bps: float
    needed_bps: float
    machine_bps: float | None
    floor_ms: float | None


class BenchResult(msgspec.Struct, frozen=True):
    """Answer of ``bench``. ``realtime``: the 99th percentile is within the frame's 80 ms.
    ``budget_share``: of that budget. ``compare`` is what ``model.compare`` gives; ``trace`` holds
    spans as the audio worker's, [stage, frame, at_us, duration_us]."""

    steps: int
    step_ms: BenchTimes
    budget_ms: float
    budget_share: Percentiles
    realtime: bool
    memory_bytes: int
    bandwidth: Bandwidth
    compare: dict[str, Any] | None = None
    trace: list[tuple[str, int, int, int]] | None = None


StructT = TypeVar("StructT", bound=msgspec.Struct)


def now_utc() -> str:
    """RFC 3339, to the millisecond."""
    now_s = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{int(now_s % 1 * 1000):03}Z"


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
