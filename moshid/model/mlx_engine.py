"""The MLX engine: a Moshi checkpoint loaded with moshi_mlx and stepped by ``step``.

Owns loading and what can be wrong with a checkpoint. Everything runs on the calling thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece
from moshi_mlx import models

from moshid import mlx_setup
from moshid.errors import BadCheckpoint
from moshid.model import memory, quantise, weights
from moshid.model.engine import EngineFacts, Sampling, StepResult
from moshid.model.step import Stepper
from moshid.model.weights import Progress

log = logging.getLogger(__name__)

WARM_UP_STEPS = 3
END_OF_PADDING_ID = 0


class MlxEngine:
    """A loaded model. See ``engine.Engine``."""

    def __init__(self, lm: Any, text_tokenizer: Any, *, quality: str, padding_id: int) -> None:
        cfg = lm.cfg
        self.card: int = cfg.audio_vocab_size - 1
        """Audio tokens are 0 to card - 1."""
        self._tokenizer = text_tokenizer
        self._silent = {END_OF_PADDING_ID, padding_id}
        self._stepper = Stepper(lm, Sampling(), condition=_condition(lm))
        self._facts = EngineFacts(
            takes="tokens",
            codebooks_user=self._stepper.codebooks_user,
            codebooks_model=cfg.generated_codebooks,
            delay_frames=max(cfg.audio_delays, default=0) + 1,
            text_vocab=cfg.text_out_vocab_size,
            quality=quality,
        )

    @property
    def facts(self) -> EngineFacts:
        """The model's shape."""
        return self._facts

    def begin(self, seed: int, sampling: Sampling) -> None:
        """A fresh conversation: caches, history, random state and samplers."""
        self._stepper.reset()
        self._stepper.set_sampling(sampling)
        mx.random.seed(seed)

    def step(self, heard: Sequence[int] | bytes) -> StepResult:
        """Answer one frame of ``codebooks_user`` tokens.

        Raises:
            ValueError: PCM, or tokens that the model does not know.
        """
        if isinstance(heard, bytes):
            raise ValueError("this engine takes tokens, not PCM")
        return self._stepper.step(heard)

    def piece(self, text: int) -> str | None:
        """The text of a token, ``▁`` as a space; None for padding."""
        if text < 0 or text in self._silent:
            return None
        piece: str = self._tokenizer.id_to_piece(text)
        return piece.replace("▁", " ")

    def memory_bytes(self) -> int:
        """What unloading gives back: MLX's buffers on Metal, else the process's resident memory."""
        if mx.metal.is_available():
            held: int = mx.get_active_memory() + mx.get_cache_memory()
            return held
        return memory.resident_bytes()

    def warm_up(self) -> list[float]:
        """A few steps on silence, then a fresh conversation; milliseconds of each step."""
        times_ms = []
        for _ in range(WARM_UP_STEPS):
            begun = time.perf_counter()
            self._stepper.step([0] * self._facts.codebooks_user)
            times_ms.append(1000 * (time.perf_counter() - begun))
        self._stepper.reset()
        return times_ms


def load(
    config: Path | None, weights_file: Path, tokenizer: Path, quality: str, progress: Progress
) -> MlxEngine:
    """Load a checkpoint; ``config`` None means Moshi v0.1, whose configuration is built in.

    Raises:
        BadCheckpoint: a file is missing, damaged, foreign, or does not fit the others.
        ModelOutOfMemory: the weights do not fit into what is free.
    """
    mlx_setup.prepare()
    numbers = _read_config(config)
    lm_config = _lm_config(numbers)
    text_tokenizer = _load_tokenizer(tokenizer, lm_config.text_out_vocab_size)
    lm = models.Lm(lm_config)
    lm.set_dtype(mx.bfloat16)
    try:
        quantise.quantise_modules(lm, quality)
    except ValueError as e:
        raise BadCheckpoint(f"this architecture cannot be quantised to {quality}: {e}") from e
    weights.fill(lm, weights_file, quality, progress)
    quantise.suit_device(lm, quality, on_cpu=quantise.default_is_cpu())
    padding_id = int(numbers.get("existing_text_padding_id", 3))
    return MlxEngine(lm, text_tokenizer, quality=quality, padding_id=padding_id)


def _read_config(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        numbers = json.loads(config.read_bytes())
    except OSError as e:
        raise BadCheckpoint(f"{config} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadCheckpoint(f"{config.name} is no JSON: {e}") from e
    if not isinstance(numbers, dict):
        raise BadCheckpoint(f"{config.name} is no JSON object")
    return numbers


def _lm_config(numbers: dict[str, Any]) -> Any:
    if not numbers:
        return models.config_v0_1()
    try:
        lm_config = models.LmConfig.from_config_dict(numbers)
        if len(lm_config.audio_delays) != lm_config.audio_codebooks:
            raise ValueError(
                f"{len(lm_config.audio_delays)} delays for {lm_config.audio_codebooks} codebooks"
            )
    except KeyError as e:
        raise BadCheckpoint(f"config.json lacks {e}: it is no Moshi configuration") from e
    except (TypeError, ValueError, AttributeError) as e:
        raise BadCheckpoint(f"config.json does not describe a Moshi model: {e}") from e
    return lm_config


def _load_tokenizer(path: Path, text_vocab: int) -> Any:
    if not path.is_file():
        raise BadCheckpoint(f"the text tokenizer is missing: {path}")
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.Load(str(path))
    except (RuntimeError, OSError) as e:
        raise BadCheckpoint(f"{path.name} is no sentencepiece model") from e
    if processor.vocab_size() < text_vocab:
        raise BadCheckpoint(
            f"{path.name} has {processor.vocab_size()} pieces where the model has {text_vocab}"
        )
    return processor


def _condition(lm: Any) -> Any:
    """The condition that upstream's programs give to conditioned models, where there is one."""
    provider = lm.condition_provider
    if provider is None or "description" not in provider.conditioners:
        return None
    return provider.condition_tensor("description", "very_good")
