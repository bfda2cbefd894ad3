"""The store that huggingface_hub (from 1.33) lets repositories share: ``blobs/<xx>/<xet hash>``.

``models--org--name/blobs/<etag>`` may be a link into it. Owns what moshid does there: content that
is damaged is replaced for all who link to it, by rename; content that nobody links to any more is
deleted. Both under the lock that huggingface_hub takes; who links is seen from the links, which its
manifests (``<xet hash>.refs``) only hint at. All functions are blocking.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "blobs"
MARKER: Final = ".huggingface-shared-blobs"
LAYOUT: Final = "1\n"
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class SharedStore:
    """The store of the cache below ``root``, if it has one of the layout that is known."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def payload_of(self, blob: Path) -> Path | None:
        """The file in the store that a repository's blob is a link to; None: it is none such."""
        with suppress(OSError):
            target = Path(os.path.normpath(blob.parent / os.readlink(blob)))
            folder = target.parent
            is_ours = folder.parent.resolve() == (self._root / FOLDER).resolve()
            is_named = _HASH.fullmatch(target.name) and target.name[:2] == folder.name
            if is_ours and is_named and self._is_known() and _is_regular(target):
                return target
        return None

    def replace(self, blob: Path, put: Callable[[Path], None]) -> bool:
        """Have ``put`` replace the content that ``blob`` is a link to, for all who link to it;
        False: it is no such link, or content of another digest hangs on it."""
        payload = self.payload_of(blob)
        if payload is None:
            return False
        with _locked(payload):
            if {link.name for link in self.links_to(payload)} != {blob.name}:
                return False
            put(payload)
        return True

    def links_to(self, payload: Path) -> list[Path]:
        """The blobs of all repositories that are links to this file."""
        found = (b for b in self._root.glob("*--*/blobs/*") if b.is_symlink())
        return [b for b in found if self.payload_of(b) == payload]

    def payloads_below(self, folder: Path) -> dict[Path, list[Path]]:
        """What a repository's blobs link to: file in the store → those links."""
        found: dict[Path, list[Path]] = {}
        for blob in sorted(folder.glob("blobs/*")):
            if (payload := self.payload_of(blob)) is not None:
                found.setdefault(payload, []).append(blob)
        return found

    def freed_bytes(self, payload: Path, going: set[Path]) -> int:
        """The room that is free once these links are gone: none, if there are others."""
        return 0 if set(self.links_to(payload)) - going else payload.stat().st_size

    def sweep(self, payload: Path) -> None:
        """Delete a file of the store if nobody links to it."""
        with _locked(payload):
            if not self.links_to(payload):
                payload.unlink(missing_ok=True)
                payload.with_name(f"{payload.name}.refs").unlink(missing_ok=True)

    def _is_known(self) -> bool:
        marker = self._root / FOLDER / MARKER
        return _is_regular(marker) and marker.read_text() == LAYOUT


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


@contextmanager
def _locked(payload: Path) -> Iterator[None]:
    """Hold the lock under which huggingface_hub links to this file, and deletes it."""
    path = payload.with_name(f"{payload.name}.lock")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
