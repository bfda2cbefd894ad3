"""A scout and audio processes that do as a test says, for ``Reopener``: no process, no time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from moshid.audio.reopening import Reopener
from moshid.audio.request import CodecSpec
from moshid.audio.spares import Spares
from moshid.audio.talking import Talking
from moshid.errors import MoshidError, WorkerDied
from moshid.supervisor import WorkerProcess

STATS = {"frames": 100, "lagged_frames": 1, "late_frames": 2, "underruns": 3, "overruns": 4}


def device(name: str, hostapi: str = "Core Audio") -> dict[str, Any]:
    """As a device is told, as far as anybody here asks."""
    return {"name": name, "hostapi": hostapi, "index": 7}


class FakeProcess:
    """Answers calls from its list; an error is raised."""

    def __init__(self, *answers: dict[str, Any] | MoshidError) -> None:
        self.alive = True
        self.calls: list[tuple[str, dict[str, Any], list[int]]] = []
        self.answers = list(answers)

    async def call(
        self, method: str, params: dict[str, Any] | None = None, *, fds: Any = (), timeout_s: float
    ) -> dict[str, Any]:
        """As WorkerProcess."""
        assert timeout_s > 0
        self.calls.append((method, params or {}, list(fds)))
        answer = self.answers.pop(0)
        if isinstance(answer, MoshidError):
            raise answer
        return answer


class FakeScout(FakeProcess):
    """Sees one thing after the other, at once; then the talk is over."""

    def __init__(self, talk: Talking, *seen: dict[str, Any] | MoshidError) -> None:
        super().__init__(*seen)
        self._talk = talk

    async def call(
        self, method: str, params: dict[str, Any] | None = None, *, fds: Any = (), timeout_s: float
    ) -> dict[str, Any]:
        """As WorkerProcess."""
        self._talk.wake.set()
        self._talk.over = len(self.answers) <= 1
        return await super().call(method, params, fds=fds, timeout_s=timeout_s)


class Keeping:
    """A talk with its keeper, and all that happened."""

    def __init__(self, **params: Any) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.retired: list[object] = []
        self.first = FakeProcess(STATS)
        self.next: list[FakeProcess] = []
        self.scouts: list[FakeScout] = []
        asked = {"session": "a", "epoch": 1, "input": None, "output": None}
        self.talk = Talking("a", asked | params, None, self._hear)
        self.talk.worker = cast(WorkerProcess, self.first)
        self.talk.devices = {"input": device("mic"), "output": device("speaker")}
        self.talk.count(100)
        self.talk.note(STATS)

    async def run(self) -> None:
        """Tend it until the scouts have nothing more to see."""
        if self.scouts:
            self.scouts[0].answers.insert(0, {})  # the look at the start, which loads libraries
        keeper = Reopener(self.talk, cast(Spares, self), self._start_scout, self.retired.append)
        async with asyncio.timeout(10):
            await keeper.run()

    def told(self, name: str) -> list[dict[str, Any]]:
        """The data of the events of that name."""
        return [data for event, data in self.events if event == name]

    def changes(self) -> list[tuple[str, str, str]]:
        """What was told of devices."""
        return [(d["direction"], d["change"], d["device"]) for d in self.told("device")]

    async def take(self, codec: CodecSpec | None) -> WorkerProcess:
        """As Spares."""
        assert codec is None
        return cast(WorkerProcess, self.next.pop(0))

    async def _start_scout(self) -> WorkerProcess:
        if not self.scouts:
            raise WorkerDied("there is no scout")
        return cast(WorkerProcess, self.scouts.pop(0))

    def _hear(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data))
