"""Keeps the machine awake while a download runs, by a child process that holds the system's own
inhibitor. Owns when it is held; a machine without such a tool goes to sleep as it always did.

The child lets go when it is ended, and by itself when the daemon dies: caffeinate watches the
daemon's process, systemd-inhibit holds for a ``cat`` that reads a pipe whose other end is ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

from moshid import threads
from moshid.downloads.states import ACTIVE
from moshid.events import Bus, Subscription

log = logging.getLogger(__name__)

Inhibitor = Callable[[], AbstractAsyncContextManager[None]]
"""The seam: the machine stays awake while the context lasts. Entering it never fails."""


PATIENCE_S: Final = 2 * 3600.0
"""An active job that has got nowhere for so long does not hold the machine: the line is away, and
may be till tomorrow. Shorter outages do hold it, or nobody would notice their end."""


class Progress:
    """Which jobs are getting somewhere, by their pictures; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}

    def made(self, job: dict[str, Any]) -> bool:
        """Whether the job is active, and was seen to get on not too long ago."""
        if job["state"] not in ACTIVE:
            self._seen.pop(job["id"], None)
            return False
        mark = (job["state"], job.get("bytes_fetched"), job.get("bytes_done"))
        seen, since_s = self._seen.get(job["id"], (None, 0.0))
        if seen != mark:
            since_s = self._clock()
            self._seen[job["id"]] = (mark, since_s)
        return self._clock() - since_s < PATIENCE_S


class Awake:
    """Holds an inhibitor while any download job is active and gets on, as the bus tells it."""

    def __init__(
        self,
        bus: Bus,
        *,
        enabled: bool,
        inhibitor: Inhibitor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._enabled = enabled
        self._inhibitor = inhibitor or Child(command())
        self._progress = Progress(clock)

    async def run(self, *, started: asyncio.Event) -> None:
        """Watch the jobs until cancelled; returns at once when it is not wanted."""
        subscription = self._bus.subscribe(["download"])
        started.set()
        try:
            while self._enabled:
                await self._until(subscription, active=True)
                async with self._inhibitor():
                    await self._until(subscription, active=False)
        finally:
            subscription.close()

    async def _until(self, subscription: Subscription, *, active: bool) -> None:
        while self._any_active() is not active:
            while self._progress.made(await _next_job(subscription)) is not active:
                pass  # progress of what is known: not worth a look at all jobs

    def _any_active(self) -> bool:
        jobs = self._bus.snapshot(["download"]).get("download", {}).get("jobs", ())
        made = [self._progress.made(job) for job in jobs]  # each is to be noted
        return any(made)


class Child:
    """An inhibitor that lasts as long as a child process. That there is no such tool, or that it
    ends by itself (no bus to ask, not permitted), is logged once."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._noted = False

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Start the child; end it when the block is left."""
        process = await self._start()
        if process is None:
            yield
            return
        watching = asyncio.create_task(self._watch(process))
        try:
            yield
        finally:
            watching.cancel()
            with suppress(ProcessLookupError):
                process.kill()  # nothing to tidy: the system takes the inhibitor back
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process | None:
        try:
            threads.check_room_for_process()
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as e:
            self._note("the machine is not kept awake: %s", e)
            return None

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self._note("the machine is not kept awake: %s ended with %d", self._command[0], code)

    def _note(self, message: str, *args: object) -> None:
        if not self._noted:
            log.debug(message, *args)
        self._noted = True


def command() -> tuple[str, ...]:
    """What holds this system's inhibitor for as long as it runs and this process lives."""
    if sys.platform == "darwin":
        return ("/usr/bin/caffeinate", "-i", "-w", str(os.getpid()))
    why = "a model is being downloaded"
    return (
        *("systemd-inhibit", "--what=sleep", "--who=moshid", f"--why={why}", "--mode=block"),
        "cat",
    )


async def _next_job(subscription: Subscription) -> dict[str, Any]:
    job: dict[str, Any] = (await subscription.take()).event.data["job"]
    return job
