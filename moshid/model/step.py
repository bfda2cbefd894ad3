"""The generation step: one frame of tokens in, one out, for ever.

It stands in place of ``moshi_mlx.models.LmGen`` on the same modules, and draws the same tokens from
the same seed. What it does otherwise: tokens and random keys are the host's, so the device is
waited for once a frame; all pure parts are stages that can be compiled; nothing grows with the
talk. Owns the conversation; what is computed has modules of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx

from moshid import mlx_setup
from moshid.errors import NotFinite
from moshid.model.engine import Sampling, StepResult
from moshid.model.finish import Finish, StepKeys, is_finite
from moshid.model.history import Streams, TokenHistory
from moshid.model.keys import KeySequence
from moshid.model.matrices import wants_wide
from moshid.model.repetition import NO_WORDS, Repetition
from moshid.model.trunk import Stage, Trunk
from moshid.model.window import Windows

DRAWS_MAX: Final = 4
"""Samplings whose last stage is kept, compiled."""


@dataclass(slots=True)
class _Conversation:
    """All that a step remembers."""

    windows: Windows
    history: TokenHistory
    sequence: KeySequence
    keys: StepKeys
    """Of the next step."""
    repetition: Repetition
    sampling: Sampling


class Stepper:
    """One conversation with an ``Lm``. ``reset`` starts another.

    ``silent``: text tokens that are no words. ``compiled`` and ``wide`` (see ``matrices``) are
    chosen by the device where they are not given; they change no token.
    """

    def __init__(
        self,
        lm: Any,
        sampling: Sampling,
        *,
        condition: Any = None,
        silent: Collection[int] = NO_WORDS,
        compiled: bool | None = None,
        wide: bool | None = None,
    ) -> None:
        """Raises ValueError for an architecture that works otherwise."""
        on_cpu = mlx_setup.computes_on_cpu()
        wide = wants_wide(lm, on_cpu=on_cpu) if wide is None else wide
        self._compiled = not on_cpu if compiled is None else compiled
        self._streams = Streams.of(lm.cfg)
        self._silent = silent
        self._trunk = Trunk(lm, condition, self._compile, wide=wide)
        self._finish = Finish(lm, self._trunk, wide=wide)
        self._head = self._compile(self._finish.head)
        self._draws: dict[Sampling, Stage] = {}
        self._conversation = self._begin(0, sampling)
        mx.clear_cache()

    @property
    def codebooks_user(self) -> int:
        """Tokens that ``step`` takes."""
        return self._streams.heard

    def reset(self, seed: int = 0, sampling: Sampling | None = None) -> None:
        """Forget the conversation: history, windows, random state. Sampling stays if not given."""
        self._conversation = self._begin(seed, sampling or self._conversation.sampling)

    def step(self, heard: Sequence[int]) -> StepResult:
        """Answer one frame. ``heard``: the user's tokens, codebook 0 first.

        Raises:
            ValueError: a token or their number is out of range.
            NotFinite: the logits are not finite; what would be drawn from them means nothing.
        """
        streams = self._streams
        if len(heard) != streams.heard:
            raise ValueError(f"{len(heard)} tokens where the model takes {streams.heard}")
        if not all(0 <= token <= streams.audio_padding for token in heard):
            raise ValueError(f"a token is outside 0..{streams.audio_padding}: {list(heard)}")
        return self._advance(self._conversation, heard)

    def exercise(self, sampling: Sampling | None = None) -> StepResult:
        """A real first step of a conversation of its own; the one that goes on does not notice.

        Raises NotFinite as ``step`` does.
        """
        scratch = self._begin(0, sampling or self._conversation.sampling)
        return self._advance(scratch, [0] * self._streams.heard)

    def has_compiled(self, sampling: Sampling) -> bool:
        """Whether nothing is left to be compiled in the first step with ``sampling``."""
        return not self._compiled or sampling in self._draws

    def _begin(self, seed: int, sampling: Sampling) -> _Conversation:
        sequence = KeySequence(seed)
        repetition = Repetition(
            sampling.text_repetition_penalty, sampling.text_repetition_window, self._silent
        )
        keys = self._finish.keys(sampling, sequence)
        windows, history = self._trunk.windows(), TokenHistory(self._streams)
        return _Conversation(windows, history, sequence, keys, repetition, sampling)

    def _advance(self, talk: _Conversation, heard: Sequence[int]) -> StepResult:
        drawn = self._launch(talk)
        talk.keys = self._finish.keys(talk.sampling, talk.sequence)  # while the device works
        text, *said, health = drawn.tolist()  # the one wait for the device
        if not is_finite(health):
            raise NotFinite(f"the logits of step {talk.history.steps} are not finite")
        talk.history.push(list(heard), text, said)
        talk.repetition.push(text)
        return StepResult(text, talk.history.frame_said())

    def _launch(self, talk: _Conversation) -> mx.array:
        """Give the device the next step's work; what ``Finish.draw`` gives is to come."""
        history = talk.history
        x, attended = self._trunk(history.text, history.inputs(), talk.windows)
        trunk, logits = self._head(x, attended)
        mx.async_eval(trunk, logits)  # the device works while the rest of the graph is made
        extras = {name: mx.array(keys, mx.uint32) for name, keys in talk.keys.items()}
        if talk.sampling.text_repetition_penalty != 1:
            extras["words"], extras["factors"] = talk.repetition.arrays()
        drawn = self._draw_stage(talk.sampling)(trunk, logits, extras)
        mx.async_eval(drawn)
        return drawn

    def _draw_stage(self, sampling: Sampling) -> Stage:
        if (stage := self._draws.get(sampling)) is None:
            if len(self._draws) >= DRAWS_MAX:
                del self._draws[next(iter(self._draws))]
            stage = self._draws[sampling] = self._compile(self._finish.draw(sampling))
        return stage

    def _compile(self, stage: Stage) -> Stage:
        return mx.compile(stage) if self._compiled else stage
