"""Builds the demo checkpoint: a small Kyutai-MLX-style repository. Owns its files and layout.

``python -m moshid.demo.checkpoint DIR``. Deterministic, made aside and renamed into place, skipped
when it stands there already. The language model is ``parrot``, the codec is shipped as data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from moshid.demo import parrot, tokenizer

REPO: Final = "moshid/demo-parrot-mlx"
BUILDER_VERSION: Final = 1
"""Raise it when the built files change: an older build is then replaced."""

FACTS_NAME: Final = "demo.json"
CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
TOKENIZER_NAME: Final = "tokenizer_spm_32k_demo.model"
CODEC_NAME: Final = "demo-codec.safetensors"
CODEC_CONFIG_NAME: Final = "mimi_config.json"
FILE_NAMES: Final = (CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME, CODEC_NAME, CODEC_CONFIG_NAME)


class FileFacts(msgspec.Struct, frozen=True):
    """Size and SHA-256 of one file of the repository."""

    size_bytes: int
    sha256: str


class CheckpointFacts(msgspec.Struct, frozen=True):
    """What stands in the folder; also its ``demo.json``, written last."""

    builder_version: int
    repo: str
    delay_frames: int
    silence_codes: tuple[int, ...]
    files: dict[str, FileFacts]


def speech_wav() -> Path:
    """Eight seconds of speech, 24 kHz mono 16-bit, shipped with the package."""
    return _data_file("speech.wav")


def build(folder: Path) -> CheckpointFacts:
    """Build the checkpoint in ``folder`` unless a complete one of this version is there.

    Raises:
        OSError: the folder cannot be written.
    """
    if (facts := read_facts(folder)) is not None:
        return facts
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        facts = _build_in(aside)
        aside.chmod(0o755)
        _replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return read_facts(folder) or facts


def read_facts(folder: Path) -> CheckpointFacts | None:
    """The facts of a complete checkpoint of this builder's version, else None."""
    try:
        facts = msgspec.json.decode((folder / FACTS_NAME).read_bytes(), type=CheckpointFacts)
    except (OSError, msgspec.DecodeError):
        return None
    sizes_fit = all(
        (folder / name).is_file() and (folder / name).stat().st_size == file.size_bytes
        for name, file in facts.files.items()
    )
    return facts if sizes_fit and facts.builder_version == BUILDER_VERSION else None


def _build_in(folder: Path) -> CheckpointFacts:
    shutil.copyfile(_data_file(CODEC_NAME), folder / CODEC_NAME)
    shutil.copyfile(_data_file(CODEC_CONFIG_NAME), folder / CODEC_CONFIG_NAME)
    (folder / TOKENIZER_NAME).write_bytes(tokenizer.build(parrot.TEXT_CARD))
    _write_weights(folder / WEIGHTS_NAME)
    names = {
        "moshi_name": WEIGHTS_NAME,
        "mimi_name": CODEC_NAME,
        "mimi_config_name": CODEC_CONFIG_NAME,
        "tokenizer_name": TOKENIZER_NAME,
    }
    text = json.dumps(parrot.config() | names, indent=2) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    facts = CheckpointFacts(
        builder_version=BUILDER_VERSION,
        repo=REPO,
        delay_frames=parrot.DELAY_FRAMES,
        silence_codes=parrot.SILENCE_CODES,
        files={name: _facts_of(folder / name) for name in FILE_NAMES},
    )
    (folder / FACTS_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2))
    return facts


def _write_weights(path: Path) -> None:
    import mlx.core as mx

    named = {name: mx.array(w).astype(mx.bfloat16) for name, w in parrot.weights().items()}
    mx.save_safetensors(str(path), named, metadata={"format": "mlx"})


def _facts_of(path: Path) -> FileFacts:
    with path.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return FileFacts(path.stat().st_size, digest)


def _replace(aside: Path, folder: Path) -> None:
    """Put ``aside`` in ``folder``'s place; when another builder was first, keep theirs."""
    if folder.exists() and read_facts(folder) is None:
        old = aside.with_name(aside.name + ".old")
        folder.rename(old)
        shutil.rmtree(old)
    try:
        aside.rename(folder)
    except OSError:
        if read_facts(folder) is None:
            raise


def _data_file(name: str) -> Path:
    return Path(str(resources.files("moshid.demo") / "data" / name))


def main(argv: list[str] | None = None) -> int:
    """The command line: build, print what stands where."""
    parser = argparse.ArgumentParser(prog="python -m moshid.demo.checkpoint", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    facts = build(folder)
    for name, file in facts.files.items():
        print(f"{file.sha256[:16]}  {file.size_bytes:>11,} bytes  {os.path.join(folder, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
