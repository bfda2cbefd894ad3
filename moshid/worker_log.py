"""A worker's standard error, merged into the daemon's log. Owns how its lines are read.

Workers log JSON lines (``logs.configure_worker``); libraries write whatever they like.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Final

LINE_BYTES_MAX: Final = 256 * 1024


async def relay(stream: asyncio.StreamReader, name: str, pid: int) -> None:
    """Log each line of ``stream`` until it ends, as ``moshid.<name>.worker``. Of a line that is
    said over and over (PortAudio's ALSA thread may, when its server has died, thousands of times)
    the first, and how many more there were."""
    logger = logging.getLogger(f"moshid.{name}.worker")
    last, again = b"", 0
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # a line over the limit: readline has dropped it
            continue
        if line == last and line:
            again += 1
            continue
        if again:
            logger.warning("the line before was said %d times more", again, extra={"pid": pid})
        if not line:
            return
        last, again = line, 0
        level, text = parse(line)
        logger.log(level, "%s", text, extra={"pid": pid})


def parse(line: bytes) -> tuple[int, str]:
    """``(level, text)`` of a line; what is no record of ours counts as a warning."""
    text = line.decode(errors="replace").rstrip()
    try:
        record = json.loads(text)
        level = logging.getLevelNamesMapping()[record["level"].upper()]
        exception = "\n" + record["exception"] if "exception" in record else ""
        return level, record["msg"] + exception
    except (ValueError, KeyError, TypeError, AttributeError):
        return logging.WARNING, text
