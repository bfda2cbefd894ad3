"""The one path where the file of a URL goes, and what may be done there. Owns the rules of it.

The partial file lies beside it, hidden; the output itself appears, whole and verified, by a rename.
What somebody else has put there is never replaced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from moshid.downloads.digests import file_matches
from moshid.downloads.disk import sync_folder
from moshid.downloads.regular import copy_of_size, regular
from moshid.downloads.removal import Loose
from moshid.downloads.volume import FolderVolume
from moshid.errors import ABSOLUTE_PATH, InvalidParams, OutputUnusable

SCHEME: Final = "file://"
NAME_BYTES_MAX: Final = 200
"""So much of the output's name is in the partial file's, which must stay below NAME_MAX."""


class Output:
    """The output ``path``. ``made``: the job has put its file there before, and may do so again."""

    shared: Final = False
    doubts_max: Final = 1  # the digest was typed by a person, and may be what is wrong
    mismatch_hint: Final = (
        "Check the SHA-256 and the URL; if the file has changed, cancel the job and start anew."
    )

    def __init__(self, path: Path, *, made: bool) -> None:
        self.path = path
        self.made = made
        self.volume = FolderVolume(path.parent)

    @property
    def name(self) -> str:
        return f"the folder {self.path.parent}"

    @property
    def check_hint(self) -> str:
        return f"Check the folder {self.path.parent}: does it exist, may it be written?"

    def key(self, etag: str) -> str:
        return f"{etag}:{self.path}"

    def blob(self, _repo: str, _etag: str) -> Path:
        return self.path

    def partial(self, etag: str) -> Path:
        name = self.path.name.encode("utf-8", "surrogateescape")[:NAME_BYTES_MAX]
        shown = name.decode("utf-8", "ignore")
        return self.path.with_name(f".{shown}.{etag[:8]}.moshid-part")

    def content(self, _repo: str, _commit: str, _path: str, _etag: str) -> Path | None:
        return self.path if regular(self.path) else None

    def seed(self, _repo: str, etag: str, size: int, _plain: Sequence[Path] = ()) -> bool:
        """Raises OutputUnusable if what is there is not this job's."""
        partial = self.partial(etag)
        self._refuse_others()
        if partial.exists() or not regular(self.path):
            return False
        new = partial.with_suffix(".moshid-new")
        try:
            copy_of_size(self.path, new, size)
            new.replace(partial)
        finally:
            new.unlink(missing_ok=True)
        return True

    def publish(self, _repo: str, _commit: str, _path: str, _etag: str, partial: Path) -> None:
        """Raises OutputUnusable if what is there is not this job's."""
        self._refuse_others()
        partial.replace(self.path)
        sync_folder(self.path.parent)

    def link(
        self, _repo: str, _commit: str, _path: str, etag: str, _twin: str | None = None
    ) -> None:
        """The output shows itself; a partial file that is not needed goes."""
        partial = self.partial(etag)
        Loose(partial, partial, 0).remove()

    def write_ref(self, _repo: str, _revision: str, _commit: str) -> None:
        """There are no revisions."""

    def check(self, etag: str) -> bool:
        """Whether the right file is there already; otherwise the path is free. Blocking: may hash.

        Raises:
            OutputUnusable: the folder is missing or may not be written, or something else is there.
        """
        folder = self.path.parent
        if not folder.is_dir():
            raise OutputUnusable(f"there is no folder {folder}", hint=f"Make it: mkdir -p {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputUnusable(f"the folder {folder} may not be written")
        if self.path.is_dir():
            raise OutputUnusable(f"{self.path} is a folder", hint="Add the file's name to it.")
        if self.path.is_file():
            try:
                if file_matches(self.path, etag, self.path.stat().st_size):
                    return True
            except PermissionError as e:
                raise OutputUnusable(f"{self.path} may not be read") from e
        self._refuse_others()
        return False

    def _refuse_others(self) -> None:
        if not self.made and os.path.lexists(self.path):
            raise OutputUnusable(f"there is another file at {self.path}, with another SHA-256")


def endpoint_of(output: Path) -> str:
    """What the ledger has in place of a Hub for the job of a URL: where its file goes."""
    return f"{SCHEME}{output}"


def output_of(endpoint: str) -> Path | None:
    """The output of a URL's job; None for a job of a Hub."""
    return Path(endpoint.removeprefix(SCHEME)) if endpoint.startswith(SCHEME) else None


def is_url(repo: str) -> bool:
    """Whether what a job fetches is the file of a URL, and not a repository."""
    return "://" in repo


def check_output(output: str) -> Path:
    """An output path as a client names it, in its shortest form.

    Raises:
        InvalidParams: it is relative, or no file's path.
    """
    if "\0" in output or not os.path.isabs(output):
        raise InvalidParams(
            f"output has to be the absolute path of a file, not {output!r}", hint=ABSOLUTE_PATH
        )
    if output.endswith("/") or os.path.basename(output) in (".", ".."):
        raise InvalidParams(f"output {output!r} is a folder, not the path of a file")
    return Path(os.path.normpath(output))
