"""What is kept of a talk: its transcript, and the recording where one is asked for.

Owns when each begins and ends; both write off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final

from moshid.settings import Settings
from moshid.talk.recording import Recording
from moshid.talk.transcript import Transcript

log = logging.getLogger(__name__)

PATIENCE_S: Final = 3.0
"""As long as an end may take that nobody wonders at."""


class Keeping:
    """Of one talk."""

    def __init__(self, settings: Settings, session: str, record: str | None) -> None:
        self._keep = settings.talk_keep_transcripts
        self._transcript = Transcript(settings.transcripts, session)
        self._recording = None if record is None else Recording(record, session, settings)

    @property
    def transcript_file(self) -> Path | None:
        """Where the words are, once there are any."""
        return self._transcript.path

    async def announce(self) -> dict[str, Any]:
        """Before the sound is opened; what the audio worker has to know of it."""
        if self._recording is None:
            return {}
        await self._recording.announce()
        return {"record": self._recording.to_worker()}

    async def begin(self, facts: dict[str, Any], *, delay_frames: int) -> None:
        """The sound is open; see ``Recording.begin``."""
        if self._recording is not None:
            await self._recording.begin(facts, delay_frames=delay_frames)

    async def write(self) -> None:
        """Write words as they come, until ``finish``."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._transcript.write(keep=self._keep))
            if self._recording is not None:
                group.create_task(self._recording.write())

    def add(self, word: dict[str, Any]) -> None:
        """Take a ``talk.text`` event's data."""
        self._transcript.add(word)
        if self._recording is not None:
            self._recording.add(word)

    def finish(self) -> None:
        """No more words."""
        self._transcript.finish()
        if self._recording is not None:
            self._recording.finish()

    async def close(self, status: dict[str, Any], *, cut_off: bool) -> None:
        """The talk is over; see ``Recording.close``."""
        if self._recording is not None:
            await self._recording.close(status, cut_off=cut_off)


class Finishing:
    """What is kept of talks that are over, while a disk that stands still holds it up."""

    def __init__(self, patience_s: float) -> None:
        """``patience_s``: how long the end of a talk waits for it."""
        self._patience_s = patience_s
        self._late: set[asyncio.Task[None]] = set()

    async def wait_for(self, keeping: asyncio.Task[None]) -> None:
        """Wait for it, and no longer than patience has it: then it goes on by itself."""
        await asyncio.wait({keeping}, timeout=self._patience_s)
        if not keeping.done():
            log.warning("the disk stands still: what is kept of the talk is finished later")
            self._late.add(keeping)
            keeping.add_done_callback(self._late.discard)

    async def rest(self) -> None:
        """Wait for all that goes on by itself."""
        if self._late:
            await asyncio.wait(self._late)
