"""Which files of a repository make up a model: the value types that downloads and model share.

Pure; imports nothing of moshid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class FileGroup(msgspec.Struct, frozen=True):
    """One file that is needed, as an ordered choice: the first candidate that exists is taken."""

    candidates: tuple[str, ...]
    optional: bool = False


FileSelector = Callable[[dict[str, Any] | None, str], list[FileGroup] | None]
"""``(config.json or None, quality) → groups``; None: no Moshi repository, take all its files."""
