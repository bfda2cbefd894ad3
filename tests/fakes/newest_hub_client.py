"""What the newest huggingface_hub does, in an environment of its own: ``COMMAND JSON`` on the
command line, one JSON object on stdout. Imports nothing of moshid or of the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download


def read(repo: str, files: list[str]) -> dict[str, Any]:
    """Look into the cache, without a line."""
    found = {f: hf_hub_download(repo, f, local_files_only=True) for f in files}
    snapshot = snapshot_download(repo, local_files_only=True)
    scanned = scan_cache_dir()
    return {
        "digests": {f: _digest(Path(p)) for f, p in found.items()},
        "snapshot": sorted(p.name for p in Path(snapshot).rglob("*") if p.is_file()),
        "warnings": [str(w) for w in scanned.warnings],
        "size": scanned.size_on_disk,
    }


def download(repo: str, files: list[str]) -> dict[str, Any]:
    """Fetch files as a user would."""
    return {"digests": {f: _digest(Path(hf_hub_download(repo, f))) for f in files}}


def share(blob: str, payload: str) -> dict[str, Any]:
    """Move a blob into the shared store; ``payload``: the Xet hash it is to have."""
    shared, cache = import_module("huggingface_hub.utils._shared_blobs"), constants.HF_HUB_CACHE
    size = Path(blob).stat().st_size
    moved = shared.publish_blob_to_shared_store(
        blob_path=blob, xet_hash=payload, cache_dir=cache, expected_size=size
    )
    return {"shared": moved, "path": str(shared.shared_blob_path(cache, payload))}


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    commands: dict[str, Callable[..., dict[str, Any]]]
    commands = {"read": read, "download": download, "share": share}
    told = commands[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(told | {"version": huggingface_hub.__version__}))  # noqa: T201
