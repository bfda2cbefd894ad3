"""The MLX engine: a Moshi checkpoint loaded with moshi_mlx and stepped by ``step``.

Owns loading and what can be wrong with a checkpoint. Everything runs on the calling thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid import mlx_setup
from moshid.errors import BadCheckpoint
from moshid.model import compare, config_check, footprint, memory, quantise, weights
from moshid.model.engine import EngineFacts, Sampling, StepResult
from moshid.model.quantised_writer import Keep
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
        self.footprint = footprint.of_model(
            {name: w.nbytes for name, w in tree_flatten(lm.parameters())},
            cfg.transformer,
            lm.out_norm.weight.itemsize,
        )
        self._lm = lm
        self._condition = _condition(lm)
        self._stepper = Stepper(lm, Sampling(), condition=self._condition, silent=self._silent)
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
        """A fresh conversation: windows, history, random state and sampling.

        A sampling that is new to a GPU is compiled before, not in the first frame.
        """
        if not self._stepper.has_compiled(sampling):
            self._stepper.exercise(sampling)
        self._stepper.reset(seed, sampling)

    def forget(self) -> None:
        """Forget the conversation: its keys and values (1.6 GB of a full window at 7B) are given
        back, and its tokens are nowhere any more."""
        self._stepper.reset()
        mx.clear_cache()

    def step(self, heard: Sequence[int] | bytes) -> StepResult:
        """Answer one frame of ``codebooks_user`` tokens.

        Raises:
            ValueError: PCM, or tokens that the model does not know.
            NotFinite: the logits are no numbers; the conversation cannot go on.
        """
        if isinstance(heard, bytes):
            raise ValueError("this engine takes tokens, not PCM")
        return self._stepper.step(heard)

    def heartbeat(self) -> float:
        """One real step that no conversation notices, whatever is going on; its milliseconds.

        Raises NotFinite when the model computes no numbers.
        """
        begun = time.perf_counter()
        self._stepper.exercise()
        return 1000 * (time.perf_counter() - begun)

    def compare(self, steps: int, between: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Our step beside upstream's (see ``compare``). The conversation does not survive it."""
        return compare.compare(
            self._lm, self._stepper, steps, condition=self._condition, between=between
        )

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
    config: Path | None,
    weights_file: Path,
    tokenizer: Path,
    quality: str,
    progress: Progress,
    keep: Keep | None = None,
) -> MlxEngine:
    """Load a checkpoint; ``config`` None means Moshi v0.1, whose configuration is built in.
    ``keep``: where copies that are quantised at load are kept.

    Raises:
        BadCheckpoint: a file is missing, damaged, foreign, or does not fit the others.
        ModelFilesGone: their volume went away meanwhile.
        ModelOutOfMemory: the weights do not fit into what is free.
    """
    mlx_setup.prepare()
    numbers = _read_config(config)
    lm_config = _lm_config(numbers)
    text_tokenizer = _load_tokenizer(tokenizer, lm_config.text_out_vocab_size)
    lm = _empty(lm_config)
    try:
        quantise.quantise_modules(lm, quality)
    except ValueError as e:
        raise BadCheckpoint(f"this architecture cannot be quantised to {quality}: {e}") from e
    weights.fill(lm, weights_file, quality, progress, keep)
    quantise.suit_device(lm, quality, on_cpu=mlx_setup.computes_on_cpu())
    padding_id = int(numbers.get("existing_text_padding_id", 3))
    try:
        return MlxEngine(lm, text_tokenizer, quality=quality, padding_id=padding_id)
    except ValueError as e:
        raise BadCheckpoint(f"this architecture cannot speak here: {e}") from e


def _read_config(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        numbers = json.loads(config.read_bytes())
    except OSError as e:
        raise BadCheckpoint(f"{config} cannot be read: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise BadCheckpoint(f"{config.name} is no JSON: {e}") from e
    if not isinstance(numbers, dict):
        raise BadCheckpoint(f"{config.name} is no JSON object")
    return numbers


def _lm_config(numbers: dict[str, Any]) -> Any:
    if not numbers:
        return models.config_v0_1()
    config_check.check(numbers)
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


def _empty(lm_config: Any) -> Any:
    """The modules, whose weights are not computed before they are replaced."""
    try:
        lm = models.Lm(lm_config)
    except (TypeError, ValueError, AttributeError, KeyError) as e:
        raise BadCheckpoint(f"config.json does not describe a Moshi model: {e}") from e
    lm.set_dtype(mx.bfloat16)
    return lm


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
