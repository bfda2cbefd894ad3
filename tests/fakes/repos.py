"""Makes repositories for a loopback Hub: seeded bytes under ``root/org/name``."""

from __future__ import annotations

import json
import random
from pathlib import Path

REPO = "org/parrot"


def content(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat, the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def make_repo(root: Path, weights_bytes: int, *, repo: str = REPO, seed: int = 0) -> Path:
    """A repository with a config, a tokenizer in a sub-folder and weights of ``weights_bytes``."""
    folder = root / repo
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"dim": 256, "seed": seed}))
    (folder / "sub" / "notes.txt").write_text("A small file in a folder.\n")
    (folder / "tokenizer.model").write_bytes(content(3_000, seed + 1))
    (folder / "model.safetensors").write_bytes(content(weights_bytes, seed + 2))
    return folder
