"""What a speech engine is: the Protocol between the model worker and whatever makes the answer.

Owns the value types of one step. The MLX engine takes the codec's tokens; a remote server (Kyutai's
``/api/chat``) would take PCM: an engine says which in ``takes``. Imports no numerical library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FRAME_BUDGET_MS = 80.0
"""One frame of audio: a step has to be faster."""

Takes = Literal["tokens", "pcm"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy; top-k 0 draws from the whole vocabulary."""

    text_temperature: float = 0.8
    text_top_k: int = 25
    audio_temperature: float = 0.8
    audio_top_k: int = 250


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a loaded engine is. ``delay_frames``: frame f is answered in step f + delay_frames at
    the earliest."""

    takes: Takes
    codebooks_user: int
    codebooks_model: int
    delay_frames: int
    text_vocab: int
    quality: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step's outcome: the tokens (codebook 0 first) or the PCM (1920 float32, little-endian),
    whichever the engine makes; both empty while it has nothing to say yet. Text -1 is none."""

    text: int = -1
    tokens: tuple[int, ...] = ()
    pcm: bytes = b""


class Engine(Protocol):
    """A loaded model that answers frame by frame. Single-threaded."""

    @property
    def facts(self) -> EngineFacts:
        """Its shape."""

    def begin(self, seed: int, sampling: Sampling) -> None:
        """Start a session: nothing of an earlier one is left."""

    def step(self, heard: Sequence[int] | bytes) -> StepResult:
        """Answer one 80 ms frame: ``codebooks_user`` tokens, or 1920 float32 samples.

        Raises:
            ValueError: the frame is not what the engine takes.
        """

    def piece(self, text: int) -> str | None:
        """The text of a text token, None for padding."""

    def memory_bytes(self) -> int:
        """Memory that unloading gives back."""
