"""Tells of an audio process that takes long, and ends one that hangs. Owns how long that takes.

A session says something at least once a second. One that says nothing for ten (its process
stopped, or stuck in a sound library) is killed, and treated as one that died.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from moshid.audio.talking import Talking

log = logging.getLogger(__name__)

LOOK_S: Final = 2.5
LOOKS: Final = 4
"""In a row, so that a daemon that was itself stopped blames nobody."""

SLOW_START_S: Final = 3.0
"""Devices that take longer may be Bluetooth's, or those of a sound server that hangs."""


@contextmanager
def telling_of_a_slow_start(talk: Talking, limit_s: float) -> Iterator[None]:
    """Tell, while a process opens the talk, that it takes long; it has ``limit_s``."""
    data = {
        "message": f"the sound devices have not opened for {SLOW_START_S:g} s",
        "hint": f"Their sound server may hang. They have {limit_s:g} s; Ctrl-C ends the wait.",
    }
    telling = asyncio.get_running_loop().call_later(SLOW_START_S, talk.tell, "warning", data)
    try:
        yield
    finally:
        telling.cancel()


async def watch(talk: Talking, look_s: float = LOOK_S) -> None:
    """Look after ``talk`` until it is over."""
    silent = 0
    while not talk.over:
        worker, told = talk.worker, talk.told
        await asyncio.sleep(look_s)
        works = not (talk.devices and talk.is_open) or talk.worker is not worker
        silent = 0 if works or talk.told != told else silent + 1
        if silent >= LOOKS and worker is not None:
            log.warning("the audio process %d says nothing any more: it is killed", worker.pid)
            silent = 0
            await worker.kill()
