"""Which names of repositories, revisions and files can be asked for at all. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from moshid.downloads.cache import check_repo_path
from moshid.errors import DownloadError, InvalidParams

_NO_REVISION: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|^/|/$|//")
"""What git allows in no name of a branch or tag."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_names(revision: str, files: Iterable[str]) -> None:
    """Refuse a name that no Hub can have, before anybody waits for an answer about it.

    Raises:
        InvalidParams: one of them is such.
    """
    if not revision or _NO_REVISION.search(revision) or _CONTROL.search(revision):
        raise InvalidParams(f"revision {revision!r} is no branch, tag or commit")
    for path in files:
        try:
            if _CONTROL.search(path):
                raise DownloadError("it holds a control character")
            check_repo_path(path)
        except DownloadError as e:
            raise InvalidParams(f"files: {path!r} is no path in a repository") from e
