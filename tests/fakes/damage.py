"""Ways in which a ledger breaks: each takes the file and leaves it damaged."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

PAGE_BYTES = 4096


def garbage(path: Path) -> None:
    """Something else was written over it."""
    path.write_bytes(random.Random(1).randbytes(20_000))


def cut_short(path: Path) -> None:
    """Not even its header is whole."""
    os.truncate(path, 90)


def emptied(path: Path) -> None:
    """Nothing is left: SQLite would begin a new one."""
    os.truncate(path, 0)


def cut_in_half(path: Path) -> None:
    """The later pages are gone."""
    os.truncate(path, path.stat().st_size // 2)


def torn_pages(path: Path) -> None:
    """All pages but the first are nonsense."""
    _overwrite(path, PAGE_BYTES, path.stat().st_size)


def bad_header(path: Path) -> None:
    """The header says that it is somebody else's."""
    with path.open("r+b") as file:
        file.seek(68)
        file.write(b"\0\0\0\0")


def bad_first_page(path: Path) -> None:
    """The list of its tables is nonsense."""
    _overwrite(path, 100, PAGE_BYTES)


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    f.__name__: f
    for f in (
        *(garbage, cut_short, emptied, cut_in_half),
        *(torn_pages, bad_header, bad_first_page),
    )
}


def _overwrite(path: Path, start: int, stop: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (stop - start))
