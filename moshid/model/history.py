"""A conversation's tokens, as far back as the delays reach. Imports no numerical library."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Streams:
    """An ``Lm``'s streams. Codebooks 0 to ``generated`` - 1 are the model's, the others the
    user's; ``delays`` in frames, by codebook."""

    delays: tuple[int, ...]
    generated: int
    text_start: int
    audio_padding: int

    @classmethod
    def of(cls, cfg: object) -> Streams:
        """Of an ``LmConfig``."""
        return cls(
            tuple(cfg.audio_delays),  # type: ignore[attr-defined]
            cfg.generated_codebooks,  # type: ignore[attr-defined]
            cfg.text_out_vocab_size,  # type: ignore[attr-defined]
            cfg.audio_padding_token,  # type: ignore[attr-defined]
        )

    @property
    def heard(self) -> int:
        """Codebooks of the user."""
        return len(self.delays) - self.generated

    @property
    def max_delay(self) -> int:
        """Frames from a frame's first token to its last."""
        return max(self.delays, default=0)


class TokenHistory:
    """The last frames heard and said; its size is fixed."""

    def __init__(self, streams: Streams) -> None:
        kept = streams.max_delay + 1
        padding = streams.audio_padding
        self._streams = streams
        self._heard: deque[Sequence[int]] = deque([[padding] * streams.heard] * kept, maxlen=kept)
        self._said: deque[Sequence[int]] = deque(
            [[padding] * streams.generated] * kept, maxlen=kept
        )
        self.text = streams.text_start
        """The text token of the last step."""
        self.steps = 0

    def inputs(self) -> list[int]:
        """The next step's audio tokens, by codebook. What was generated for a frame is heard
        again in the next step; what the user said in frame f is heard in step f + 1 + its delay."""
        streams, said = self._streams, self._said[-1]
        tokens = []
        for index, delay in enumerate(streams.delays):
            if self.steps - 1 - delay < 0:
                tokens.append(streams.audio_padding)
            elif index < streams.generated:
                tokens.append(said[index])
            else:
                tokens.append(self._heard[-1 - delay][index - streams.generated])
        return tokens

    def push(self, heard: Sequence[int], text: int, said: Sequence[int]) -> None:
        """A step was taken."""
        self.text = text
        self._heard.append(heard)
        self._said.append(said)
        self.steps += 1

    def frame_said(self) -> tuple[int, ...]:
        """The newest frame that is complete in every codebook, or nothing yet."""
        streams = self._streams
        if not streams.generated or self.steps - 1 - streams.max_delay < 0:
            return ()
        delays = streams.delays[: streams.generated]
        frame = tuple(self._said[-1 - streams.max_delay + d][i] for i, d in enumerate(delays))
        return () if streams.audio_padding in frame else frame
