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

REPETITION_WINDOW_MAX = 3000
"""Four minutes of text tokens."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, by the field's names.

    Temperature 0 is greedy; top-k 0 draws from the whole vocabulary, top-p 1 from all of it, too;
    both together: top-p of the k. The repetition penalty divides a positive logit, and multiplies
    a negative one, of the words among the last ``text_repetition_window`` text tokens (Keskar et
    al., "CTRL", 2019); 1 is none. Padding is no word.
    """

    text_temperature: float = 0.8
    text_top_k: int = 25
    audio_temperature: float = 0.8
    audio_top_k: int = 250
    text_top_p: float = 1.0
    audio_top_p: float = 1.0
    text_repetition_penalty: float = 1.0
    text_repetition_window: int = 64

    def __post_init__(self) -> None:
        """Raises ValueError for what no draw can be made of."""
        if min(self.text_temperature, self.audio_temperature) < 0:
            raise ValueError("a temperature is below 0")
        if min(self.text_top_k, self.audio_top_k) < 0:
            raise ValueError("a top-k is below 0")
        if not (0 < self.text_top_p <= 1 and 0 < self.audio_top_p <= 1):
            raise ValueError("a top-p is outside 0 < p <= 1")
        if self.text_repetition_penalty <= 0:
            raise ValueError("the repetition penalty is not above 0")
        if not 1 <= self.text_repetition_window <= REPETITION_WINDOW_MAX:
            raise ValueError(f"the repetition window is outside 1..{REPETITION_WINDOW_MAX}")


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
