"""Whether the file at a URL is still the one that it was when the download began. Pure.

Servers tell by a strong ETag, else by Last-Modified, which file a range is of. Several behind one
name may each tell another, of the same file: what comes back has not been replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

ALIKE: Final = 8
"""So many answers in a row are of another edition than the first, before that is believed."""

SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Edition:
    """What an answer tells of the file that it is from; empty: nothing."""

    etag: str
    modified: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """As the headers of an answer have it."""
        etag = headers.get("ETag", "").strip()
        etag = "" if etag.startswith("W/") else etag
        return cls(etag, headers.get("Last-Modified", "").strip())

    def differs(self, other: Edition) -> bool:
        """Whether both say that they are not the same."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.modified and other.modified) and self.modified != other.modified

    def __str__(self) -> str:
        """Fit for a terminal."""
        told = f"ETag {self.etag}" if self.etag else f"of {self.modified}"
        return "".join(c for c in told if c.isprintable())[:SHOWN]


@dataclass(slots=True)
class _Seen:
    first: Edition
    other: Edition
    row: int = 0
    mixed: bool = False


class Editions:
    """Of one URL, by the server that gave the bytes."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self.news: str | None = None
        """That the file was replaced, in words."""

    def saw(self, server: str, edition: Edition) -> None:
        """An answer came with bytes."""
        seen = self._seen.setdefault(server, _Seen(edition, edition))
        if not edition.differs(seen.first):
            seen.mixed = seen.mixed or seen.row >= ALIKE
            seen.row = 0
        elif edition.differs(seen.other):
            seen.other, seen.row = edition, 1
        else:
            seen.row += 1
        told = [s for s in self._seen.values() if s.row >= ALIKE and not s.mixed]
        self.news = f"{told[0].first} at first, {told[0].other} now" if told else None
