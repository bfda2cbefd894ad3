"""The audio processes that there are. Owns their starting, their ends, and work in the background.

Whatever happens, none outlives ``run``: spares, the one that talks, those that only look, and those
that are on their way out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from moshid.settings import Settings
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

SCOUT_MODULE: Final = "moshid.audio.scout"


class Processes:
    """``tell`` gets a process's events, ``gone`` is called when one has ended."""

    def __init__(
        self,
        settings: Settings,
        module: str,
        tell: Callable[[WorkerProcess | None, str, dict[str, Any]], None],
        gone: Callable[[WorkerProcess], None],
    ) -> None:
        self._settings = settings
        self._module = module
        self._tell = tell
        self._gone = gone
        self._all: set[WorkerProcess] = set()
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Processes may be started within; at the end every one is ended, within its bounds."""
        try:
            async with asyncio.TaskGroup() as self._group:
                yield
        finally:
            self._group = None
            await asyncio.gather(*(worker.stop() for worker in tuple(self._all)))

    async def start(self) -> WorkerProcess:
        """One that can take a session.

        Raises:
            MoshidError: it does not start.
        """
        return await self._start(self._module)

    async def start_scout(self) -> WorkerProcess:
        """One that looks for devices. Raises as ``start``."""
        return await self._start(SCOUT_MODULE)

    def retire(self, worker: WorkerProcess) -> None:
        """End it in the background."""

        async def stop() -> None:
            await worker.stop()
            self._all.discard(worker)

        self.later(stop())

    def later(
        self, work: Coroutine[Any, Any, None], *, name: str | None = None
    ) -> asyncio.Task[None] | None:
        """Run in the background, as a part of ``running``; None when that is over."""
        try:
            if self._group is not None:
                return self._group.create_task(work, name=name)
        except RuntimeError:
            log.debug("the service is stopping: %r will not run", work)
        work.close()
        return None

    async def _start(self, module: str) -> WorkerProcess:
        worker: WorkerProcess | None = None

        def on_event(name: str, data: dict[str, Any]) -> None:
            self._tell(worker, name, data)

        worker = await WorkerProcess.start(module, self._settings, on_event=on_event)
        self._all.add(worker)
        self.later(self._see_it_end(worker))
        return worker

    async def _see_it_end(self, worker: WorkerProcess) -> None:
        await asyncio.wait({worker.exited})
        self._gone(worker)
