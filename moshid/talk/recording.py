"""What stands beside a talk's recorded sound: transcript, captions, facts. Owns their mending.

The audio worker writes the WAV; what is written here comes from the daemon. A note in
``$MOSHID_HOME/recordings`` says that a recording is under way: one that is still there when the
daemon starts tells of a recording to be finished. Everything touches the disk off the event loop,
and a disk that fails costs the recording, never the talk.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from moshid.audio import wav
from moshid.settings import Settings
from moshid.talk.captions import HEAD, Captions, whole

log = logging.getLogger(__name__)

FRAME_S: Final = 0.08
CUT_OFF: Final = "cut off: the process that wrote it ended; mended"


class Recording:
    """One recording, from before its sound is opened to its end."""

    def __init__(self, folder: str, session: str, settings: Settings) -> None:
        self._base = Path(folder) / f"{time.strftime('%Y%m%dT%H%M%S')}-{session}"
        self._note = settings.recordings / f"{session}.json"
        self._settings = settings
        self._facts: dict[str, Any] = {}
        self._delay_s = FRAME_S
        self._captions = Captions()
        self._words: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._disk = ThreadPoolExecutor(1, "recording")
        """One thread: what was begun and cancelled is over before the next begins."""
        self._has_failed = False

    def to_worker(self) -> dict[str, Any]:
        """What the audio worker is told (``RecordTo``)."""
        return {
            "path": str(_wav(self._base)),
            "max_bytes": self._settings.talk_record_max_bytes,
            "min_free_bytes": self._settings.talk_record_min_free_bytes,
        }

    async def announce(self) -> None:
        """Leave the note, before there is anything to be mended."""
        text = json.dumps({"base": str(self._base)})
        await self._quietly(_replace, self._note, text)

    async def begin(self, facts: dict[str, Any], *, delay_frames: int) -> None:
        """The sound is being recorded: say of what.

        Args:
            facts: JSON-ready.
            delay_frames: what the model says is heard so many frames after the one that it
                answers, and one more, since that has to be complete.
        """
        self._delay_s = (delay_frames + 1) * FRAME_S
        self._facts = {
            "started_at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "channels": {"left": "user, as the model heard it", "right": "Moshi"},
            "sample_rate": wav.SAMPLE_RATE,
            "ended_at": None,
            **facts,
        }
        await self._quietly(self._begin)

    def add(self, word: dict[str, Any]) -> None:
        """Take a ``talk.text`` event's data."""
        self._words.put_nowait(word)

    async def write(self) -> None:
        """Write words as they come, until ``finish``."""
        while (word := await self._words.get()) is not None:
            await self._quietly(self._write_word, word)

    def finish(self) -> None:
        """No more words: ``write`` comes to its end."""
        self._words.put_nowait(None)

    async def close(self, status: dict[str, Any], *, cut_off: bool) -> None:
        """The talk is over, with ``status``; ``cut_off``: the sound's writer did not end it. One
        that never began leaves nothing."""
        await self._quietly(self._close, status, cut_off)
        self._disk.shutdown(wait=False)

    async def _quietly(self, work: Callable[..., None], *args: Any) -> None:
        """A disk that fails is logged: once, not with each word for hours."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, work, *args)
        except (OSError, ValueError) as e:
            level = logging.DEBUG if self._has_failed else logging.WARNING
            log.log(level, "a recording's files cannot be kept: %s", e)
            self._has_failed = True

    def _begin(self) -> None:
        self._write_facts()
        if not _captions(self._base).exists():
            _append(_captions(self._base), HEAD)
        _append(_transcript(self._base), "")

    def _write_facts(self) -> None:
        _replace(_facts(self._base), json.dumps(self._facts, ensure_ascii=False, indent=1) + "\n")

    def _write_word(self, word: dict[str, Any]) -> None:
        heard_s = round(word["t_s"] + self._delay_s, 2)
        line = {k: word[k] for k in ("frame", "t_s")} | {"heard_s": heard_s, "text": word["text"]}
        _append(_transcript(self._base), json.dumps(line, ensure_ascii=False) + "\n")
        self._write_cues(self._captions.add(word["text"], heard_s))

    def _write_cues(self, cues: str) -> None:
        if cues:
            _append(_captions(self._base), cues)

    def _close(self, status: dict[str, Any], cut_off: bool) -> None:
        if not self._facts:
            self._note.unlink(missing_ok=True)
            _wav(self._base).unlink(missing_ok=True)
            return
        self._facts |= {
            "ended_at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "status": status,
        }
        self._begin()  # again, should that have been cancelled
        self._write_cues(self._captions.finish())
        if cut_off:
            _mend(self._base)
        if (status.get("recording") or {}).get("reason") != "failed":  # its end may yet be mended
            self._note.unlink(missing_ok=True)


async def mend_all(settings: Settings) -> int:
    """Finish what an earlier daemon could not; returns how many recordings that were."""
    return await asyncio.to_thread(_mend_all, settings.recordings)


def _mend_all(notes: Path) -> int:
    mended = 0
    for note in sorted(notes.glob("*.json")):
        try:
            text = note.read_text(encoding="utf-8") if note.is_file() else ""  # a FIFO would wait
            base = Path(json.loads(text)["base"])
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("a note on a recording cannot be read", extra={"path": str(note)})
            note.unlink(missing_ok=True)
            continue
        try:
            _mend(base)
        except (OSError, ValueError) as e:
            log.warning("a recording could not be finished: %s", e, extra={"path": str(base)})
            if not _is_gone(base, e):
                continue  # its volume may come back, or have room again
        else:
            log.info("a recording was finished", extra={"path": str(_wav(base))})
            mended += 1
        note.unlink(missing_ok=True)
    return mended


def _is_gone(base: Path, error: OSError | ValueError) -> bool:
    """Whether there is nothing to be finished, and never will be: no file, or none of ours."""
    missing = isinstance(error, FileNotFoundError) and os.path.isdir(base.parent)
    return missing or isinstance(error, ValueError)


def _mend(base: Path) -> None:
    seconds = wav.mend(_wav(base))
    _drop_half_line(_transcript(base))
    _replace(_captions(base), whole(_words(_transcript(base))))
    try:
        facts = dict(json.loads(_facts(base).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        facts = {}
    facts |= {"mended": CUT_OFF, "seconds": round(seconds, 2)}
    _replace(_facts(base), json.dumps(facts, ensure_ascii=False, indent=1) + "\n")


def _drop_half_line(transcript: Path) -> None:
    """What stands behind the last line that is whole; one that was cut off tells nothing."""
    with suppress(FileNotFoundError), transcript.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _words(transcript: Path) -> list[dict[str, Any]]:
    """The lines that can be read."""
    words = []
    try:
        # Not splitlines: what it takes for ends of lines, JSON leaves in its strings.
        lines = transcript.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    for line in filter(None, lines):
        try:
            word = json.loads(line)
            words.append({"heard_s": float(word["heard_s"]), "text": str(word["text"])})
        except (ValueError, KeyError, TypeError):
            log.warning("a damaged line was left out of %s", transcript.name)
    return words


def _wav(base: Path) -> Path:
    return base.with_name(base.name + ".wav")


def _facts(base: Path) -> Path:
    return base.with_name(base.name + ".json")


def _transcript(base: Path) -> Path:
    return base.with_name(base.name + ".jsonl")


def _captions(base: Path) -> Path:
    return base.with_name(base.name + ".vtt")


def _append(path: Path, text: str) -> None:
    """All of it, or nothing: behind half a line the next one would be lost, too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with open(os.open(path, flags, 0o600), "ab", buffering=0) as file:
        begin, data = os.fstat(file.fileno()).st_size, memoryview(text.encode())
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(begin)
            raise


def _replace(path: Path, text: str) -> None:
    """Write the whole file, or leave the old one."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
