"""A model in a Hub cache that is quantised at load, and the copies that this leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid.model import quantise, quantised_store, weights
from moshid.model.load_progress import Advance
from moshid.model.quantised_store import Copy
from moshid.model.quantised_writer import Keep, Outcome
from tests.fakes import small_models

DIGEST = "ab" * 32


class Cached:
    """A random bf16 model as the Hub cache holds it, loaded as q4 again and again."""

    def __init__(self, root: Path) -> None:
        hub = root / "hub"
        repo = hub / "models--org--model"
        self.blob = repo / "blobs" / DIGEST
        self.weights = repo / "snapshots" / ("c" * 40) / "model.safetensors"
        for file in (self.blob, self.weights):
            file.parent.mkdir(parents=True)
        small_models.write_checkpoint(root / "made")
        (root / "made" / "model.safetensors").rename(self.blob)
        self.weights.symlink_to(Path("../../blobs") / DIGEST)
        self.folder = quantised_store.folder_beside(hub)
        self.outcomes: list[Outcome] = []
        self.stages: list[str] = []

    def load(self, quality: str = "q4") -> tuple[str, dict[str, Any]]:
        """How the weights came, and what they are, once the copy is over."""
        lm = models.Lm(models.LmConfig.from_config_dict(small_models.config()))
        lm.set_dtype(mx.bfloat16)
        quantise.quantise_modules(lm, quality)
        self.stages.clear()

        def tell(advance: Advance) -> None:
            self.stages.append(advance.stage)

        keep = Keep(self.folder, self.outcomes.append)
        filled = weights.fill(lm, self.weights, quality, tell, keep)
        if filled.writer is not None:
            filled.writer.outcome()
        return filled.how, dict(tree_flatten(lm.parameters()))

    def copy(self) -> Copy:
        """The only one."""
        (copy,) = quantised_store.copies(self.folder)
        return copy
