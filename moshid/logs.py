"""Structured logs: one JSON object a line, to a rotating file and, in a terminal, readable text.

Owns the format; imports only settings. Call ``configure`` once a process.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
from typing import TextIO

from moshid.settings import Settings

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
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send this process's records to the log file and to ``stream`` (default stderr).

    A stream that is no terminal gets warnings and errors only: launchd writes it to a file that
    nobody rotates.
    """
    stream = stream or sys.stderr
    to_file = logging.handlers.RotatingFileHandler(
        settings.log_file,
        maxBytes=settings.log_max_bytes,
        backupCount=settings.log_keep,
        encoding="utf-8",
    )
    to_file.setFormatter(JsonFormatter())
    to_stream = logging.StreamHandler(stream)
    to_stream.setFormatter(TextFormatter())
    to_stream.setLevel(logging.DEBUG if stream.isatty() else logging.WARNING)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(to_file)
    root.addHandler(to_stream)
    root.setLevel(settings.log_level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def configure_worker(level: str) -> None:
    """In a worker: JSON lines on stderr, which the supervisor reads and merges into the log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
