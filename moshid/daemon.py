"""The composition root: every object is made and joined here; parts start and stop in order.

Downloads, model, audio, talk, control socket: started in this order, each when the one before is
ready; stopped in the reverse, each within a time limit. A part that fails ends the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from moshid import __version__, home, logs
from moshid.audio.service import AudioService
from moshid.disposal import Disposal
from moshid.downloads.awake import Awake
from moshid.downloads.service import DownloadService
from moshid.errors import MoshidError
from moshid.events import Bus
from moshid.library import Library
from moshid.measuring import Measuring
from moshid.model import catalogue
from moshid.model.service import ModelService
from moshid.rpc.app import App
from moshid.rpc.dispatch import Dispatcher
from moshid.rpc.methods import all_methods
from moshid.rpc.server import RpcServer
from moshid.settings import Settings
from moshid.talk.service import TalkService
from moshid.threads import Threads
from moshid.whereabouts import Whereabouts

log = logging.getLogger(__name__)

STOP_PARTS: Final = 2
"""Parts that may each need ``stop_timeout_s`` for their worker; the whole stop gets so much."""

SWITCH_INTERVAL_S: Final = 0.0005
"""A thread that computes lets the event loop go on after so long (the interpreter's own 5 ms add up
over the steps of an answer: with 24 connections at disk speed its p99 was 35 ms, 19 with this)."""

DESCRIPTORS: Final = 4096
"""As many open files are asked for: macOS gives 256, which clients and downloads could use up."""

THREADS_S_MAX: Final = 4.0
"""At the end, for threads whose work nobody waits for any more."""

Part = tuple[str, Callable[..., Awaitable[None]]]


class Daemon:
    """The whole service. ``run`` it once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self.bus = Bus()
        self.bus.provide_snapshot("daemon", lambda: {"version": __version__, "pid": os.getpid()})
        self.downloads = DownloadService(settings, self.bus, catalogue.select_files)
        self.awake = Awake(self.bus, enabled=settings.download_keep_awake)
        self.model = ModelService(settings, self.bus)
        self.audio = AudioService(settings, self.bus)
        self.library = Library(settings, self.bus, self.downloads, self.model, self.audio)
        self.measuring = Measuring(
            self.bus, self.model, self.library.decision, self.library.verdicts
        )
        self.whereabouts = Whereabouts(settings.default_model, self.bus, self.downloads, self.model)
        self.disposal = Disposal(self.downloads, self.model)
        self.talk = TalkService(settings, self.bus, self.library, self.model, self.audio)
        self.app = App(
            settings=settings,
            bus=self.bus,
            downloads=self.downloads,
            library=self.library,
            disposal=self.disposal,
            model=self.model,
            audio=self.audio,
            talk=self.talk,
            whereabouts=self.whereabouts,
            stop=self._stop.set,
            started_at=time.monotonic(),
        )
        self.server = RpcServer(
            settings.socket, Dispatcher(all_methods(), self.app, self.model.note_call)
        )

    def stop(self) -> None:
        """Begin an orderly stop; a second signal means: leave at once."""
        if self._stop.is_set():
            log.warning("asked to stop a second time: leaving at once")
            os._exit(1)
        self._stop.set()

    async def run(self) -> None:
        """Start every part, serve until ``stop``, stop every part.

        Raises:
            ExceptionGroup: of what made a part fail.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # nohup
                loop.add_signal_handler(number, self.stop)
        parts: list[Part] = [
            ("downloads", self.downloads.run),
            ("keeping awake", self.awake.run),
            ("model", self.model.run),
            ("audio", self.audio.run),
            ("measuring", self.measuring.run),
            ("whereabouts", self.whereabouts.run),
            ("talk", self.talk.run),
            ("control socket", self.server.run),
        ]
        running: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            for name, run in parts:
                running.append(await self._start(group, name, run))
            log.info("ready", extra={"socket": str(self._settings.socket), "pid": os.getpid()})
            await self._stop.wait()
            log.info("stopping")
            self.bus.publish("daemon", {"event": "stopping"})
            deadline_s = loop.time() + STOP_PARTS * self._settings.stop_timeout_s
            for task in reversed(running):
                await _end(task, deadline_s - loop.time())
        log.info("stopped")

    async def _start(
        self, group: asyncio.TaskGroup, name: str, run: Callable[..., Awaitable[None]]
    ) -> asyncio.Task[None]:
        started = asyncio.Event()

        async def part() -> None:
            await run(started=started)

        task = group.create_task(part(), name=name)
        ready = group.create_task(started.wait())
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return task


async def _end(task: asyncio.Task[None], limit_s: float) -> None:
    """Cancel a part and wait for it; one that is late is left behind, and the process with it."""
    task.cancel()
    _done, late = await asyncio.wait({task}, timeout=max(0.0, limit_s))
    if late:
        log.error("%s did not stop in time: leaving it", task.get_name())
        logging.shutdown()
        os._exit(1)


def run(settings: Settings) -> int:
    """Run the daemon until it is told to stop; returns the exit code.

    Raises:
        MoshidError: it cannot start (another daemon, an unusable home, a newer ledger, ...).
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _ask_for_descriptors()
    home.prepare(settings)
    with home.locked(settings), logs.configured(settings) as recent:
        try:
            asyncio.run(_main(settings, recent))
        except BaseExceptionGroup as group:
            known, unexpected = group.split(MoshidError)
            if known is None or unexpected is not None:
                raise
            error = _first(known)
            log.error("cannot go on: %s", error.message)  # under launchd nobody sees stderr
            raise error from None
    return 0


def _ask_for_descriptors() -> None:
    """As far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _main(settings: Settings, recent: logs.RecentLog) -> None:
    daemon = Daemon(settings)
    loop = asyncio.get_running_loop()

    def publish(line: dict[str, Any]) -> None:
        """From the thread that writes the log; the loop may be closed by then."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(daemon.bus.publish, "log", line)

    daemon.bus.provide_snapshot("log", lambda: {"lines": list(recent.recent)})
    recent.listener = publish
    threads = Threads(thread_name_prefix="asyncio")
    loop.set_default_executor(threads)
    try:
        await daemon.run()
    finally:
        leave(threads)
        loop.set_default_executor(ThreadPoolExecutor(1))  # which asyncio waits for, without a bound


def leave(threads: ThreadPoolExecutor, limit_s: float = THREADS_S_MAX) -> None:
    """Wait for what they are at, but not for a disk that stands still."""
    ending = threading.Thread(target=threads.shutdown, daemon=True)
    ending.start()
    ending.join(limit_s)


def _first(group: BaseExceptionGroup[MoshidError]) -> MoshidError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit("run it as: moshid run")
