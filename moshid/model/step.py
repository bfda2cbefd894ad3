"""The generation step: one frame of tokens in, one out, for ever. Owns token history and caches.

It stands in place of ``moshi_mlx.models.LmGen`` on the same modules, and draws the same tokens from
the same seed, with these differences: the token history lives on the host and is as long as the
longest delay; the device is waited for once a frame; there is no last step; and the key-value
cache holds exactly the attended window (``context`` + 1 positions), since the upstream ring of 4096
is sliced as though it were in order of time, which it is not after 4096 steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from moshi_mlx.modules.kv_cache import RotatingKVCache
from moshi_mlx.modules.transformer import LayerCache
from moshi_mlx.utils.sampling import Sampler

from moshid.model.engine import Sampling, StepResult


class Stepper:
    """One conversation with an ``Lm``. ``reset`` starts another."""

    def __init__(self, lm: Any, sampling: Sampling, *, condition: Any = None) -> None:
        cfg = lm.cfg
        self._lm = lm
        self._condition = condition
        self._delays: list[int] = list(cfg.audio_delays)
        self._max_delay = max(self._delays, default=0)
        self._main: int = cfg.generated_codebooks
        self._padding: int = cfg.audio_padding_token
        self._text_start: int = cfg.text_out_vocab_size
        self._cache = window_cache(lm)
        self._depformer_cache = (
            lm.depformer.slices[0].transformer.make_cache() if self._main else []
        )
        self.set_sampling(sampling)
        self.reset()

    @property
    def codebooks_user(self) -> int:
        """Tokens that ``step`` takes."""
        return len(self._delays) - self._main

    def set_sampling(self, sampling: Sampling) -> None:
        """Draw by ``sampling`` from the next step on."""
        cfg = self._lm.cfg
        self._text_sampler = make_sampler(
            sampling.text_temperature, sampling.text_top_k, cfg.text_out_vocab_size
        )
        self._audio_sampler = make_sampler(
            sampling.audio_temperature, sampling.audio_top_k, cfg.audio_vocab_size - 1
        )

    def reset(self) -> None:
        """Forget the conversation: history and caches."""
        for cache in (*self._cache, *self._depformer_cache):
            cache.reset()
        kept = self._max_delay + 1
        none_heard = [self._padding] * self.codebooks_user
        none_said = [self._padding] * self._main
        self._heard: deque[list[int]] = deque([none_heard] * kept, maxlen=kept)
        self._said: deque[list[int]] = deque([none_said] * kept, maxlen=kept)
        self._text = self._text_start
        self._steps = 0

    def step(self, heard: Sequence[int]) -> StepResult:
        """Answer one frame. ``heard``: the user's tokens, codebook 0 first.

        Raises:
            ValueError: a token or their number is out of range.
        """
        if len(heard) != self.codebooks_user:
            raise ValueError(f"{len(heard)} tokens where the model takes {self.codebooks_user}")
        if not all(0 <= token <= self._padding for token in heard):
            raise ValueError(f"a token is outside 0..{self._padding}: {list(heard)}")
        text, said = self._generate([self._text, *self._audio_inputs()])
        self._text = text
        self._heard.append(list(heard))
        self._said.append(said)
        self._steps += 1
        return StepResult(text, self._frame_said())

    def _audio_inputs(self) -> list[int]:
        """This step's audio tokens, by codebook. What was generated for a frame is heard again in
        the next step; what the user said in frame f is heard in step f + 1 + its delay."""
        inputs = []
        for index, delay in enumerate(self._delays):
            if self._steps - 1 - delay < 0:
                inputs.append(self._padding)
            elif index < self._main:
                inputs.append(self._said[-1][index])
            else:
                inputs.append(self._heard[-1 - delay][index - self._main])
        return inputs

    def _generate(self, inputs: list[int]) -> tuple[int, list[int]]:
        """One pass of the model; the only place where the host waits for the device."""
        lm = self._lm
        ids = mx.array([inputs], mx.int32)
        xs = lm.text_emb(ids[:, :1])
        for i, embedding in enumerate(lm.audio_embs, start=1):
            xs = xs + embedding(ids[:, i : i + 1])
        if self._condition is not None:
            xs = xs + mx.expand_dims(self._condition.tensor, axis=1)
        out = lm.out_norm(lm.transformer(xs, cache=self._cache))
        text, _ = self._text_sampler(lm.text_linear(out))
        drawn = text
        if self._main:
            audio = lm.depformer.sample(out, self._audio_sampler, text, self._depformer_cache)
            drawn = mx.concatenate([text, audio[:, :, 0]], axis=1)
        tokens: list[int] = drawn[0].tolist()
        return tokens[0], tokens[1:]

    def _frame_said(self) -> tuple[int, ...]:
        """The newest frame that is complete in every codebook, or nothing yet."""
        if not self._main or self._steps - 1 - self._max_delay < 0:
            return ()
        delays = self._delays[: self._main]
        frame = tuple(self._said[-1 - self._max_delay + d][i] for i, d in enumerate(delays))
        return () if self._padding in frame else frame


def window_cache(lm: Any) -> list[Any]:
    """A key-value cache a layer that holds the last ``context`` positions and the current one."""
    cfg = lm.cfg.transformer
    return [
        LayerCache(
            RotatingKVCache(
                head_dim=cfg.head_dim,
                n_kv_heads=cfg.num_heads // cfg.kv_repeat,
                max_size=cfg.context + 1,
            )
        )
        for _ in range(cfg.num_layers)
    ]


def make_sampler(temperature: float, top_k: int, vocabulary: int) -> Any:
    """Upstream's sampler; it refuses a top-k as large as the vocabulary, which means all of it."""
    if 0 < top_k < vocabulary:
        return Sampler(temp=temperature, top_k=top_k)
    return Sampler(temp=temperature, top_p=1.0, top_k=None)
