"""The step's last stages: from the last attention to the frame's tokens, all codebooks of them.

Two stages, since the text head's matrix keeps the device busy while the host makes the graph of
the rest.
"""

from __future__ import annotations

from typing import Any, Final

import mlx.core as mx

from moshid.model.depformer import Depformer
from moshid.model.engine import Sampling
from moshid.model.keys import Key, KeySequence
from moshid.model.matrices import product
from moshid.model.repetition import penalise
from moshid.model.samplers import Noise, make_draw, make_noise
from moshid.model.trunk import Stage, Trunk

_EXPONENT: Final = 0x7F800000
"""Of float32; all ones: infinite, or no number."""

StepKeys = dict[str, list[Key]]
"""The keys of one step's draws, by what they draw."""

Extras = dict[str, mx.array]
"""What draws take besides logits: ``text_key`` uint32 [1, 2], ``audio_keys`` uint32 [codebooks,
2], ``words`` and ``factors`` (see ``repetition``); each only where the sampling asks for it."""


class Finish:
    """An ``Lm``'s text head and depformer, and how they draw."""

    def __init__(self, lm: Any, trunk: Trunk, *, wide: bool) -> None:
        self._trunk = trunk
        self._text_head = product(lm.text_linear, wide=wide)
        self._codebooks: int = lm.cfg.generated_codebooks
        self._depformer = Depformer(lm.depformer, wide=wide) if self._codebooks else None
        self._text_vocabulary: int = lm.cfg.text_out_vocab_size
        self._audio_vocabulary: int = lm.cfg.audio_vocab_size - 1
        self._text_noise = make_noise(self._text_vocabulary)
        self._audio_noise = make_noise(self._audio_vocabulary)

    def head(self, x: mx.array, attended: mx.array) -> tuple[mx.array, mx.array]:
        """The residual before the last attention and what that attended to → the trunk's output
        [1, dim] and the text logits [1, vocabulary]."""
        trunk = self._trunk.behind(x, attended)
        return trunk, self._text_head(trunk)

    def draw(self, sampling: Sampling) -> Stage:
        """A pure function of ``head``'s two and ``Extras``: uint32 [1 + codebooks + 1], the tokens
        and the bits of the sum of all logits, which is finite if they are (see ``is_finite``)."""
        draw_text = make_draw(
            sampling.text_temperature,
            sampling.text_top_k,
            sampling.text_top_p,
            self._text_vocabulary,
        )
        draw_audio = make_draw(
            sampling.audio_temperature,
            sampling.audio_top_k,
            sampling.audio_top_p,
            self._audio_vocabulary,
        )
        text_noise, audio_noise = self._text_noise, self._audio_noise

        def draw(trunk: mx.array, logits: mx.array, extras: Extras) -> mx.array:
            all_logits = [logits]
            if "words" in extras:
                logits = penalise(logits, extras["words"], extras["factors"])
            text = draw_text(logits, _of(text_noise, extras.get("text_key")))
            tokens = [text]
            if self._depformer is not None:
                noise = _of(audio_noise, extras.get("audio_keys"))
                said, audio_logits = self._depformer(trunk, text, draw_audio, noise)
                tokens += said
                all_logits += audio_logits
            health = (
                mx.concatenate(all_logits, axis=-1).astype(mx.float32).sum(axis=-1, keepdims=True)
            )
            return mx.concatenate([*tokens, health.view(mx.uint32)], axis=-1).reshape(-1)

        return draw

    def keys(self, sampling: Sampling, sequence: KeySequence) -> StepKeys:
        """One step's keys, in the order in which ``LmGen`` takes them: greedy draws take none."""
        keys: StepKeys = {}
        if sampling.text_temperature:
            keys["text_key"] = [sequence.next()]
        if sampling.audio_temperature and self._codebooks:
            keys["audio_keys"] = [sequence.next() for _ in range(self._codebooks)]
        return keys


def is_finite(bits: int) -> bool:
    """Whether the float32 of these bits is a number."""
    return bits & _EXPONENT != _EXPONENT


def _of(noise: Noise, keys: mx.array | None) -> mx.array | None:
    return None if keys is None else noise(keys)
