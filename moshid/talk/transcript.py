"""A talk's transcript on disk: JSON lines, written off the loop as the words come; old ones pruned.

Owns the files under ``$MOSHID_HOME/transcripts``. Moshi's own words only: that is what the model
writes down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
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
        """Write words until ``finish``; leave the newest ``keep`` files. A full disk is logged."""
        word = await self._words.get()
        if word is None:
            return
        try:
            async with aiofiles.open(self._path, "a", encoding="utf-8") as file:
                self.path = self._path
                while word is not None:
                    await file.write(json.dumps(word, ensure_ascii=False) + "\n")
                    await file.flush()
                    word = await self._words.get()
            await asyncio.to_thread(_prune, self._path.parent, keep)
        except OSError as e:
            log.warning("the transcript cannot be kept: %s", e, extra={"path": str(self._path)})


def _prune(folder: Path, keep: int) -> None:
    for old in sorted(folder.glob("*.jsonl"))[: -keep or None]:
        old.unlink()
