"""Structured logs: one JSON object a line, to a rotating file and, in a terminal, readable text.

Owns the formats and the threads that write; imports only errors and settings.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from moshid.errors import HomeUnusable
from moshid.settings import MOVE_AWAY, Settings

RECENT_MAX: Final = 200
"""Records that a new listener gets to see."""

STREAM_RECORDS_MAX: Final = 1000
"""Records that may wait for a stream whose reader has stopped; more are left out there."""

STREAM_END_LIMIT_S: Final = 1.0
"""How long the end waits for such a stream."""

_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n not in (9, 10)}
"""What a terminal takes for commands, but for tab and line end; a server's words may hold some."""

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """``{"t", "level", "logger", "msg", ...extra}``, times in UTC with milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "t": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """``12:00:00 info  moshid.daemon: message key=value`` for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {k}={v}" for k, v in vars(record).items() if k not in _STANDARD)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{clock} {record.levelname.lower():<7} {record.name}: {record.getMessage()}{extra}"
        text += "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return text.translate(_CONTROLS)


class RecentLog(logging.Handler):
    """The last records as JSON objects, each also handed to ``listener`` when there is one."""

    def __init__(self, keep: int = RECENT_MAX) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.recent: deque[dict[str, Any]] = deque(maxlen=keep)
        self.listener: Callable[[dict[str, Any]], None] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Called in the thread that writes the log."""
        line = json.loads(self.format(record))
        self.recent.append(line)
        if self.listener is not None:
            self.listener(line)


class PatientStream(logging.Handler):
    """Writes to a stream in a thread of its own, so that a terminal that is stopped (Ctrl-S), or a
    pipe that nobody reads, holds up neither the log file nor the daemon's end."""

    def __init__(self, stream: TextIO, level: int) -> None:
        super().__init__(level)
        self.setFormatter(TextFormatter())
        self._stream = stream
        self._waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="log stream", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        if self._waiting.qsize() < STREAM_RECORDS_MAX:
            self._waiting.put(record)

    def close(self) -> None:
        """Wait until all is written, if that takes no longer than ``STREAM_END_LIMIT_S``."""
        self._waiting.put(None)
        self._thread.join(STREAM_END_LIMIT_S)
        super().close()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            with contextlib.suppress(OSError, ValueError):  # its reader has gone: the file has all
                self._stream.write(self.format(record) + "\n")
                self._stream.flush()


class _LogFile(logging.handlers.RotatingFileHandler):
    """The log file. That it cannot be written is said once, to ``elsewhere``, until it can be
    again: each record would bring a traceback, into another file on the full volume, perhaps. One
    that cannot be rotated grows, and rotating is tried again each time as much has come."""

    elsewhere: tuple[logging.Handler, ...] = ()
    _failed = _said = False
    _rotate_bytes = 0
    """A size below which rotating is not tried."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._failed = False
        super().emit(record)
        self._said = self._failed

    def shouldRollover(self, record: logging.LogRecord) -> bool | int:  # noqa: N802 - logging's
        """Called before a record is written: who moved the file away, or deleted it, finds what
        comes in a new one."""
        if self.stream and not _is_at(self.baseFilename, self.stream):
            with contextlib.suppress(OSError):
                self.stream.close()
            self.stream = None  # opened again below
        if not super().shouldRollover(record):
            self._rotate_bytes = 0
            return False
        return os.path.getsize(self.baseFilename) >= self._rotate_bytes

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Called before a record is written to a file that is long enough."""
        size_bytes = os.path.getsize(self.baseFilename)
        try:
            super().doRollover()
        except OSError as e:
            self.stream = self._open()
            self._rotate_bytes = size_bytes + self.maxBytes
            why = f"{self.baseFilename} cannot be rotated, and grows: {e}"
            logging.FileHandler.emit(self, self._say(logging.WARNING, why))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Called where ``record`` could not be written."""
        self._failed = True
        if not self._said:
            why = f"{self.baseFilename} cannot be written: {sys.exc_info()[1]}"
            self._say(logging.ERROR, f"{why} ({record.getMessage()})")

    def _say(self, level: int, text: str) -> logging.LogRecord:
        told = {"name": __name__, "levelno": level, "levelname": logging.getLevelName(level)}
        record = logging.makeLogRecord(told | {"msg": text})
        for handler in self.elsewhere:
            handler.handle(record)
        return record

    def close(self) -> None:
        """Close it, though what it still holds finds no room."""
        with contextlib.suppress(OSError):
            super().close()


def _is_at(path: str, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class _AsItIs(logging.handlers.QueueHandler):
    """Hands records on unformatted: the threads share a process, and extras stay apart."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


def _log_file(settings: Settings) -> _LogFile:
    if settings.log_file.is_fifo():  # opening it would wait for a reader, for ever
        why = f"{settings.log_file} cannot be written: it is a FIFO"
        raise HomeUnusable(why, hint=MOVE_AWAY)
    try:
        handler = _LogFile(
            settings.log_file,
            maxBytes=settings.log_max_bytes,
            backupCount=settings.log_keep,
            encoding="utf-8",
        )
    except OSError as e:
        hint = MOVE_AWAY if isinstance(e, IsADirectoryError) else None
        raise HomeUnusable(f"{settings.log_file} cannot be written: {e.strerror}", hint=hint) from e
    handler.setFormatter(JsonFormatter())
    return handler


@contextlib.contextmanager
def configured(settings: Settings, *, stream: TextIO | None = None) -> Iterator[RecentLog]:
    """Send this process's records to the log file and to ``stream`` (default stderr).

    A thread writes them, since a disk may take its time and the event loop may not. A stream that
    is no terminal gets warnings and errors only: launchd writes it to a file that nobody rotates.

    Raises:
        HomeUnusable: the log file cannot be opened.
    """
    stream = stream or sys.stderr
    to_file = _log_file(settings)
    to_stream = PatientStream(stream, logging.DEBUG if stream.isatty() else logging.WARNING)
    recent = RecentLog()
    to_file.elsewhere = (to_stream, recent)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    writer = logging.handlers.QueueListener(
        records, to_file, to_stream, recent, respect_handler_level=True
    )
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [_AsItIs(records)]
    root.setLevel(settings.log_level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    writer.start()
    try:
        yield recent
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        writer.stop()
        to_file.close()
        to_stream.close()


def configure_worker(level: str) -> None:
    """In a worker: JSON lines on stderr, which the supervisor reads and merges into the log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
