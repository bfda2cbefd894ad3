"""A Moshi repository's files: which to fetch for a quality, and where they are on disk.

Pure but for reading ``config.json``; no numerical library. A repository without a ``config.json``
is Moshi v0.1: a built-in configuration and fixed file names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from moshid.errors import BadCheckpoint, ModelNotFound
from moshid.model import config_check
from moshid.selection import FileGroup

CONFIG: Final = "config.json"
WEIGHTS: Final = {
    "bf16": "model.safetensors",
    "q8": "model.q8.safetensors",
    "q4": "model.q4.safetensors",
}
V0_1_TOKENIZER: Final = "tokenizer_spm_32k_3.model"
V0_1_CODEC: Final = "tokenizer-e351c8d8-checkpoint125.safetensors"
_MOSHI_KEYS: Final = frozenset({"dim", "num_layers", "n_q", "dep_q", "card", "text_card", "delays"})


class CheckpointPaths(msgspec.Struct, frozen=True):
    """The files of one model. ``config`` None is v0.1, ``codec_config`` None the standard Mimi;
    ``quality`` is what it is to run as, which the weights may have to be quantised to; ``store`` is
    the folder of quantised copies, None: none are kept."""

    quality: str
    config: Path | None
    weights: Path
    tokenizer: Path
    codec_weights: Path
    codec_config: Path | None
    codec_kind: str
    codebooks: int
    delay_frames: int
    store: Path | None = None

    def codec_spec(self) -> dict[str, Any]:
        """The codec as the audio worker takes it: ``{kind, weights, config, codebooks}``."""
        return {
            "kind": self.codec_kind,
            "weights": str(self.codec_weights),
            "config": str(self.codec_config) if self.codec_config else None,
            "codebooks": self.codebooks,
        }


def qualities_on_disk(files: Mapping[str, Path]) -> list[str]:
    """The qualities that ``files`` hold weights of, best first."""
    found = _weights_on_disk(files)
    return [quality for quality in WEIGHTS if quality in found]


def weights_bytes(files: Mapping[str, Path]) -> dict[str, int]:
    """The sizes of the weights in ``files`` by quality, of those that are there. Reads the disk."""
    found = _weights_on_disk(files).items()
    return {quality: path.stat().st_size for quality, path in found if path.is_file()}


def _weights_on_disk(files: Mapping[str, Path]) -> dict[str, Path]:
    """By quality; what ``config.json`` names goes before what is named as usual. A damaged one
    names nothing: ``locate`` refuses it, but to mend it, or to delete all, it is not needed."""
    config: dict[str, Any] = {}
    if CONFIG in files:
        with contextlib.suppress(BadCheckpoint):
            config = read_config(files[CONFIG])
    names = (*WEIGHTS.values(), str(config.get("moshi_name", WEIGHTS["bf16"])))
    return {quality_of(name): files[name] for name in names if name in files}


def quality_of(weights_name: str) -> str:
    """The quality that a weights file's name tells: ``model.q4.safetensors`` is q4."""
    return next((q for q in ("q8", "q4") if weights_name.endswith(f".{q}.safetensors")), "bf16")


def select_files(config: dict[str, Any] | None, quality: str) -> list[FileGroup] | None:
    """The files to fetch of a repository for a quality (a ``moshid.selection.FileSelector``).

    ``config`` is its parsed ``config.json``; None, that it has none, means Moshi v0.1. Returns
    None when the configuration is not Moshi's.
    """
    if config is None:
        return [
            FileGroup(_weights_names(None, quality)),
            FileGroup((V0_1_TOKENIZER,)),
            FileGroup((V0_1_CODEC,)),
        ]
    if not is_moshi(config):
        return None
    names = [
        _named(config, "tokenizer_name", V0_1_TOKENIZER),
        _named(config, "mimi_name", V0_1_CODEC),
        _named(config, "mimi_config_name", None),
    ]
    weights = FileGroup(_weights_names(_named(config, "moshi_name", None), quality))
    return [FileGroup((CONFIG,)), weights, *(FileGroup((n,)) for n in names if n is not None)]


def _named(config: Mapping[str, Any], key: str, default: str | None) -> str | None:
    """A file name of ``config.json``, refused when it leads out of the repository."""
    name = config.get(key) or default
    if name is None:
        return None
    path = PurePosixPath(str(name))
    if not isinstance(name, str) or path.is_absolute() or ".." in path.parts:
        raise BadCheckpoint(f"config.json names no file of its repository: {key} is {name!r}")
    return name


def is_moshi(config: Mapping[str, Any]) -> bool:
    """Whether ``config`` has the numbers of a Moshi language model."""
    return config.keys() >= _MOSHI_KEYS


def _weights_names(named: str | None, quality: str) -> tuple[str, ...]:
    """Candidates for the weights, best first: the quality's own, else bf16 to quantise."""
    if quality == "auto":
        return (named,) if named is not None else tuple(WEIGHTS.values())
    fitting = [q for q in (quality, "bf16") if q in WEIGHTS]
    by_quality = {q: [WEIGHTS[q]] for q in fitting}
    if named is not None and quality_of(named) in by_quality:
        by_quality[quality_of(named)].insert(0, named)
    return tuple(dict.fromkeys(name for q in fitting for name in by_quality[q]))


def locate(repo: str, quality: str, on_disk: Mapping[str, Path]) -> CheckpointPaths:
    """The files of ``repo`` that make up a model of ``quality`` (not ``auto``).

    ``on_disk``: path in the repository → file. Weights of the quality itself are taken first,
    then bf16 to be quantised at load.

    Raises:
        ModelNotFound: a file is not on disk; the message names it.
        BadCheckpoint: ``config.json`` is unreadable or not Moshi's.
    """
    config = read_config(on_disk[CONFIG]) if CONFIG in on_disk else None
    if config is not None and not is_moshi(config):
        raise BadCheckpoint(
            f"{repo} is no Moshi model: its config.json lacks "
            + ", ".join(sorted(_MOSHI_KEYS - config.keys()))
        )
    numbers = config or {}

    def need(key: str, default: str | None) -> Path | None:
        name = _named(numbers, key, default)
        if name is not None and name not in on_disk:
            raise ModelNotFound(f"{repo} is not completely on disk: {name} is missing")
        return None if name is None else on_disk[name]

    weights = _find_weights(repo, _named(numbers, "moshi_name", None), quality, on_disk)
    tokenizer = need("tokenizer_name", V0_1_TOKENIZER)
    codec_weights = need("mimi_name", V0_1_CODEC)
    codec_config = need("mimi_config_name", None)
    assert tokenizer is not None
    assert codec_weights is not None
    return CheckpointPaths(
        quality=quality,
        config=on_disk.get(CONFIG),
        weights=weights,
        tokenizer=tokenizer,
        codec_weights=codec_weights,
        codec_config=codec_config,
        codec_kind="mlx_mimi" if codec_config else "rustymimi",
        codebooks=max(*_codebooks(repo, numbers)),
        delay_frames=_delay_frames(numbers),
    )


def _find_weights(repo: str, named: str | None, quality: str, on_disk: Mapping[str, Path]) -> Path:
    candidates = [name for name in _weights_names(named, quality) if name in on_disk]
    for wanted in (quality, "bf16"):
        for name in candidates:
            if quality_of(name) == wanted:
                return on_disk[name]
    have = f"; there is {', '.join(candidates)}" if candidates else ""
    missing = _weights_names(named, quality)[0]
    raise ModelNotFound(f"{repo} is not on disk as {quality}: {missing} is missing{have}")


def _codebooks(repo: str, numbers: Mapping[str, Any]) -> tuple[int, int]:
    """The user's and the model's codebooks."""
    n_q, dep_q = numbers.get("n_q", 16), numbers.get("dep_q", 8)
    if not (isinstance(n_q, int) and isinstance(dep_q, int) and 0 <= dep_q <= n_q):
        raise BadCheckpoint(f"{repo}: config.json has n_q {n_q!r} and dep_q {dep_q!r}")
    return n_q - dep_q, dep_q


def _delay_frames(numbers: Mapping[str, Any]) -> int:
    """Step s answers frame s - delay_frames at the earliest: the longest delay, and the answer."""
    config_check.check_delays(numbers)
    return max(numbers.get("delays", [0, 0, 1])[1:], default=0) + 1


def read_config(path: Path) -> dict[str, Any]:
    """A ``config.json``.

    Raises:
        BadCheckpoint: unreadable, or no JSON object.
    """
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise BadCheckpoint(f"{path} cannot be read as JSON: {e}") from e
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{path} is no JSON object")
    return config
