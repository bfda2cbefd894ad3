"""What workers write to their standard error, in the daemon's log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from moshid.worker_log import relay

PID = 4711


async def relayed(lines: bytes, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and texts of what is logged of ``lines``."""
    stream = asyncio.StreamReader()
    stream.feed_data(lines)
    stream.feed_eof()
    with caplog.at_level(logging.DEBUG, "moshid.audio.worker"):
        await relay(stream, "audio", PID)
    assert all(record.pid == PID for record in caplog.records)  # type: ignore[attr-defined]
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.asyncio
async def test_records_keep_their_level_and_others_are_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = b'{"level": "info", "msg": "ready"}\nALSA lib: no such device\n[1, 2]\n'
    assert await relayed(lines, caplog) == [
        ("INFO", "ready"),
        ("WARNING", "ALSA lib: no such device"),
        ("WARNING", "[1, 2]"),
    ]


@pytest.mark.asyncio
async def test_a_line_that_is_said_over_and_over_is_told_once_with_its_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flood = b"one\n" + 8551 * b"PaAlsaStream_HandleXrun failed\n" + b"two\ntwo\n"
    assert await relayed(flood, caplog) == [
        ("WARNING", "one"),
        ("WARNING", "PaAlsaStream_HandleXrun failed"),
        ("WARNING", "the line before was said 8550 times more"),
        ("WARNING", "two"),
        ("WARNING", "the line before was said 1 times more"),
    ]
