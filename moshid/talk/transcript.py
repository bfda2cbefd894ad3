"""A talk's transcript on disk: JSON lines, written off the loop as the words come; old ones pruned.

Owns the files under ``$MOSHID_HOME/transcripts``. Moshi's own words only: that is what the model
writes down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiofiles

log = logging.getLogger(__name__)


FRAME_S: Final = 0.08


def spoken(session: str, data: dict[str, Any]) -> dict[str, Any]:
    """A ``talk.text`` event's data, of the model's ``{frame, piece}``."""
    frame = data["frame"]
    t_s = round(frame * FRAME_S, 2)
    return {"session": session, "frame": frame, "t_s": t_s, "text": data["piece"]}


class Transcript:
    """Takes words, writes them. No words, no file."""

    def __init__(self, folder: Path, session: str) -> None:
        self._path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{session}.jsonl"
        self._words: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.path: Path | None = None
        """Where it is being written, from the first word on."""

    def add(self, word: dict[str, Any]) -> None:
        """Take a ``talk.text`` event's data."""
        self._words.put_nowait(word)

    def finish(self) -> None:
        """No more words: ``write`` comes to its end."""
        self._words.put_nowait(None)

    async def write(self, *, keep: int) -> None:
        """Write words until ``finish``; leave the newest ``keep`` files. A disk that fails is
        logged, once; what finds room again is kept."""
        has_failed = False
        while (word := await self._words.get()) is not None:
            line = json.dumps(word, ensure_ascii=False) + "\n"
            try:
                await _append(self._path, line.encode())
                self.path = self._path
            except OSError as e:
                level = logging.DEBUG if has_failed else logging.WARNING
                extra = {"path": str(self._path)}
                log.log(level, "the transcript cannot be kept: %s", e, extra=extra)
                has_failed = True
        if self.path is not None:
            await asyncio.to_thread(_prune, self.path, keep)


async def _append(path: Path, data: bytes) -> None:
    """All of it, or nothing: half a line would spoil the next one, too."""
    async with aiofiles.open(path, "ab", buffering=0) as file:
        begin = await file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[await file.write(data) :]
        except OSError:
            await file.truncate(begin)
            raise


def _prune(newest: Path, keep: int) -> None:
    """By their names; but a clock that was set back may give the newest an old one."""
    others = sorted(path for path in newest.parent.glob("*.jsonl") if path != newest)
    for old in [*others, newest][: -keep or None]:
        with suppress(OSError):  # gone meanwhile, perhaps
            old.unlink()
