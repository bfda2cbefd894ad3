"""Keeps a talk on its devices: waits for those that went, and follows the system's default.

Owns the looking (``scout``) and the taking over by the spare process. All of it has time-outs: a
sound server that is dead or stopped holds up nothing but this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from moshid.audio.spares import Spares
from moshid.audio.talking import DIRECTIONS, Talking
from moshid.errors import AudioError, AudioWorkerDied, InternalError, MoshidError, WorkerDied
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""Between two looks at the system's default."""

AWAY_LOOK_S: Final = 0.3
"""Between two looks for a device that is away. A look takes 20 to 120 ms."""

LOOK_TIMEOUTS_S: Final = (1.5, 3.0, 6.0)
"""A server that was stopped, or dies as it is looked at, holds up a look for seconds after it is
back; a machine under load needs its time. So patience grows with each failure, and begins anew."""

LEAVE_TIMEOUT_S: Final = 5.0
OPEN_TIMEOUT_S: Final = 8.0
OPEN_PAUSE_S_MAX: Final = 4.0
SERVER_FOLLOWS: Final = ("ALSA", "JACK Audio Connection Kit")
"""Here the sound server itself brings open streams to a new default, or knows none."""


class Reopener:
    """Tends one talk, from its start to its end."""

    def __init__(
        self,
        talk: Talking,
        spares: Spares,
        start_scout: Callable[[], Awaitable[WorkerProcess]],
        retire: Callable[[WorkerProcess], None],
    ) -> None:
        self._talk = talk
        self._spares = spares
        self._start_scout = start_scout
        self._retire = retire
        self.scout: WorkerProcess | None = None
        self._server_defaults: dict[str, str] = {}
        self._open_pause_s = AWAY_LOOK_S
        self._failed_looks = 0

    async def run(self) -> None:
        """Tend it until cancelled, or its time is over."""
        talk = self._talk
        try:
            await self._look()  # its libraries load now, not when every tenth of a second counts
            while not talk.over:
                talk.wake.clear()
                await self._tend()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause_s()):
                        await talk.wake.wait()
        except MoshidError as e:  # no device's fault: trying again would not help
            talk.over = True
            talk.tell("failed", {"error": e})
        except Exception:
            log.exception("the devices of talk %s are not tended any more", talk.session)
            talk.over = True
            talk.tell("failed", {"error": InternalError("the talk's devices were lost")})
        finally:
            self._dismiss_scout()

    async def _tend(self) -> None:
        if self._talk.away:
            await self._try_to_come_back()
        elif self._follows():
            await self._follow()

    def _pause_s(self) -> float | None:
        if self._talk.away:
            return self._open_pause_s
        return LOOK_S if self._follows() else None

    def _follows(self) -> bool:
        """Whether it is to go where the system's default goes, and there is something to see."""
        talk = self._talk
        return any(
            talk.params.get(d) is None and talk.devices[d]["hostapi"] != SERVER_FOLLOWS[1]
            for d in DIRECTIONS
        )

    async def _try_to_come_back(self) -> None:
        talk = self._talk
        if talk.worker is not None:
            self._retire(talk.worker)
            talk.worker = None
        if talk.is_out_of_time():
            talk.over = True
            talk.tell("ended", {"reason": "seconds", "stats": talk.stats})
            return
        seen = await self._look()
        if seen is None:
            return
        for direction in DIRECTIONS:
            if seen[direction] is None and direction not in talk.lost:
                self._tell(direction, "lost", talk.devices[direction]["name"])
        if all(seen[d] is not None for d in DIRECTIONS):
            await self._open()

    async def _open(self) -> None:
        talk = self._talk
        params = talk.resume()
        answer = await self._start_on_spare(params)
        if answer is None:
            return
        self._open_pause_s = AWAY_LOOK_S
        before, talk.devices = talk.devices, answer["devices"]
        talk.resumed(params["first_frame"])
        talk.away = False
        talk.tell("back", {"devices": talk.devices})
        for direction in DIRECTIONS:
            name = talk.devices[direction]["name"]
            if name != before[direction]["name"]:
                self._tell(direction, "changed", name)
            elif direction in talk.lost:
                self._tell(direction, "back", name)
        talk.lost.clear()

    async def _start_on_spare(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """What the process that takes over answers; None if none could. The next try comes later
        and later then: each costs a process with a codec."""
        talk = self._talk
        worker: WorkerProcess | None = None
        try:
            worker = await self._spares.take(talk.codec)
            talk.worker, talk.began_s, talk.failed = worker, time.monotonic(), None
            fds = [] if talk.sock is None else [talk.sock.fileno()]
            answer = await worker.call("start", params, fds=fds, timeout_s=OPEN_TIMEOUT_S)
            if talk.has_failed or not worker.alive:  # told with the answer, so before it is seen
                raise AudioWorkerDied("the devices went again at once")
            return answer
        except (AudioError, WorkerDied) as e:
            log.warning("the devices of talk %s do not open yet: %s", talk.session, e)
            self._give_up(worker)
            self._open_pause_s = min(OPEN_PAUSE_S_MAX, 2 * self._open_pause_s)
            return None
        except BaseException:
            self._give_up(worker)
            raise

    def _give_up(self, worker: WorkerProcess | None) -> None:
        self._talk.worker = None
        if worker is not None:
            self._retire(worker)

    async def _follow(self) -> None:
        talk = self._talk
        followed = {talk.devices[d]["hostapi"] for d in DIRECTIONS if talk.params.get(d) is None}
        told_only = followed <= set(SERVER_FOLLOWS)
        seen = await (self._ask("defaults", {}) if told_only else self._look())
        if seen is None or talk.away:
            return
        before, self._server_defaults = (
            self._server_defaults,
            self._server_defaults | seen["system"],
        )
        for direction in DIRECTIONS:
            if talk.params.get(direction) is not None:
                continue
            device, default = talk.devices[direction], seen.get(direction)
            if device["hostapi"] in SERVER_FOLLOWS:
                name = seen["system"].get(direction)
                if name is not None and name != before.get(direction, name):
                    self._tell(direction, "changed", name)
            elif default is not None and _is_other(default, device):
                await self._leave()
                return

    async def _leave(self) -> None:
        """The default is another device now: let the old one go in order, then come back."""
        talk = self._talk
        worker, talk.away = talk.worker, True
        talk.tell("away", {})
        if worker is not None:
            with contextlib.suppress(MoshidError):
                stats = await worker.call("leave", timeout_s=LEAVE_TIMEOUT_S)
                talk.note(stats)
                talk.count(stats["frames"])
        talk.wake.set()

    async def _look(self) -> dict[str, Any] | None:
        """What there is now; None when that could not be found out."""
        return await self._ask("look", self._talk.wanted())

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        scout = await self._have_scout()
        if scout is None:
            return None
        timeout_s = LOOK_TIMEOUTS_S[self._failed_looks % len(LOOK_TIMEOUTS_S)]
        try:
            seen = await scout.call(method, params, timeout_s=timeout_s)
        except MoshidError as e:
            log.warning("the sound devices cannot be listed: %s", e)
            self._failed_looks += 1
            self._dismiss_scout()
            return None
        self._failed_looks = 0
        return seen

    async def _have_scout(self) -> WorkerProcess | None:
        try:
            if self.scout is None or not self.scout.alive:
                self.scout = await self._start_scout()
        except MoshidError as e:
            log.warning("no process can look for sound devices: %s", e)
            self._dismiss_scout()
        return self.scout

    def _dismiss_scout(self) -> None:
        scout, self.scout = self.scout, None
        if scout is not None:
            self._retire(scout)

    def _tell(self, direction: str, change: str, device: str) -> None:
        tell_device(self._talk, direction, change, device)


def lose(talk: Talking, error: MoshidError) -> None:
    """Its devices are not open any more: say so, and have them waited for."""
    log.warning("talk %s has lost its devices: %s", talk.session, error)
    talk.away = True
    talk.blame(error)
    talk.tell("away", {})
    directions = [error.facts["direction"]] if "direction" in error.facts else DIRECTIONS
    for direction in directions:
        tell_device(talk, direction, "lost", talk.devices[direction]["name"], error.message)
    talk.wake.set()


def tell_device(
    talk: Talking, direction: str, change: str, device: str, message: str | None = None
) -> None:
    """Say ``lost``, ``back`` or ``changed`` of a device."""
    if change == "lost":
        talk.lost.add(direction)
    data = {"direction": direction, "change": change, "device": device}
    talk.tell("device", data if message is None else data | {"message": message})


def _is_other(device: dict[str, Any], than: dict[str, Any]) -> bool:
    return any(device[key] != than[key] for key in ("name", "hostapi"))
