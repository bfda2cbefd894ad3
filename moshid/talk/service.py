"""One conversation from start to end: the use case that joins model and audio.

Owns the talk's states and its single place (one talk a daemon). Everything that happens to a talk
arrives in its inbox and is handled by one task. It carries no audio: see ``joining``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from moshid.errors import (
    AudioWorkerDied,
    ModelError,
    MoshidError,
    NoTalk,
    TalkBusy,
)
from moshid.events import Bus
from moshid.settings import Settings
from moshid.talk import recording
from moshid.talk.joining import Joining, Told
from moshid.talk.keeping import PATIENCE_S, Finishing, Keeping
from moshid.talk.ports import AudioPort, LibraryPort, ModelPort
from moshid.talk.request import TalkRequest
from moshid.talk.session import Talk, describe, idle_status
from moshid.talk.states import TalkState, next_state
from moshid.talk.transcript import spoken

log = logging.getLogger(__name__)


class TalkService:
    """The one talk of this daemon."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        library: LibraryPort,
        model: ModelPort,
        audio: AudioPort,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``patience_s``: as ``Finishing``."""
        self._settings = settings
        self._bus = bus
        self._model = model
        self._audio = audio
        told = Told(self._from_audio, self._from_model_text)
        self._joining = Joining(settings, library, model, audio, told)
        self._talk: Talk | None = None
        self._finishing = Finishing(patience_s)
        self._last_trace: dict[str, Any] = {"session": None, "spans": []}
        self._group: asyncio.TaskGroup
        bus.provide_snapshot("talk", lambda: {"status": self.status()})

    async def run(self, *, started: asyncio.Event) -> None:
        """Carry talks until cancelled; a talk that goes on then is stopped in order. What an
        earlier daemon left of recordings is finished first."""
        await recording.mend_all(self._settings)
        async with asyncio.TaskGroup() as self._group:
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                if self._talk is not None:
                    self._ask_to_stop(self._talk, "daemon_stopping")
                    await self._talk.finished.wait()
                await self._finishing.rest()

    def status(self) -> dict[str, Any]:
        """The contract's talk status; of no session when there is none."""
        return idle_status() if self._talk is None else describe(self._talk)

    async def start(self, request: TalkRequest, owner: str) -> dict[str, Any]:
        """Start a talk and wait until it listens. If the caller is cancelled, it stops.

        Raises:
            TalkBusy: there is one already; the error names its owner.
            MoshidError: whatever kept it from starting.
        """
        if self._talk is not None:
            raise TalkBusy(
                f"a talk is going on, started by {self._talk.owner}",
                owner=self._talk.owner,
                session=self._talk.session,
            )
        request.check()
        session = secrets.token_hex(4)
        seed = secrets.randbits(31) if request.seed is None else request.seed
        kept = Keeping(self._settings, session, request.record)
        talk = self._talk = Talk(session, request, owner, seed, kept)
        self._tell(talk)
        talk.opening = asyncio.create_task(self._joining.open(talk), name=f"talk-{session}-opening")
        self._group.create_task(self._converse(talk), name=f"talk-{session}")
        try:
            await asyncio.shield(talk.started)
        except asyncio.CancelledError:
            if not request.detach:
                self._ask_to_stop(talk, "client_gone")
            raise
        return {"session": describe(talk), "seed": seed}

    async def stop(self) -> dict[str, Any]:
        """Stop the talk and wait for its end; answers its final status.

        Raises:
            NoTalk: there is none.
        """
        talk = self._talk
        if talk is None:
            raise NoTalk("no talk is going on")
        self._ask_to_stop(talk, "stopped")
        await talk.finished.wait()
        return describe(talk)

    async def set(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change mute, push-to-talk, volume or pause; answers ``{session, controls}``, all of them.

        Raises:
            NoTalk: there is none, or it does not listen yet.
            AudioWorkerDied: its process ended meanwhile.
        """
        talk = self._talk
        if talk is None:
            raise NoTalk("no talk is going on")
        if talk.devices is None:
            raise NoTalk("the talk does not listen yet", hint="Wait until its state is listening.")
        before = talk.stats.get("controls")
        controls = await self._audio.set_controls(talk.session, changes)
        talk.stats["controls"] = controls
        if controls != before:
            self._tell(talk, event="controls", controls=controls)
        return {"session": talk.session, "controls": controls}

    async def trace(self) -> dict[str, Any]:
        """``{session, spans}`` of the talk, else of the last one; no session if there was none.

        Raises:
            AudioWorkerDied: its process ended meanwhile.
        """
        talk = self._talk
        if talk is None or talk.devices is None:
            return self._last_trace
        try:
            return {"session": talk.session, "spans": await self._audio.trace(talk.session)}
        except NoTalk:  # its sound has just ended, and left its trace
            return self._last_trace

    def owner_gone(self, session: str) -> None:
        """The connection that started the talk was lost: stop it."""
        if self._talk is not None and self._talk.session == session:
            self._ask_to_stop(self._talk, "client_gone")

    def _ask_to_stop(self, talk: Talk, reason: str) -> None:
        talk.reason = talk.reason or reason
        if talk.opening is not None:
            talk.opening.cancel()
        talk.inbox.put_nowait(("stop", None))

    async def _converse(self, talk: Talk) -> None:
        """The talk's life. A stop cancels its opening, never this: whatever happens, it closes."""
        assert talk.opening is not None
        writing = self._group.create_task(talk.kept.write())
        try:
            await talk.opening
            self._enter(talk, TalkState.LISTENING)
            talk.started.set_result(None)
            await self._follow(talk)
        except MoshidError as e:
            talk.error = e
        except asyncio.CancelledError:
            talk.reason = talk.reason or "stopped"
        except Exception:
            log.exception("talk %s failed unexpectedly", talk.session)
            talk.error = MoshidError("the talk failed unexpectedly")
        try:
            await self._close(talk, writing)
        finally:
            talk.finished.set()

    async def _follow(self, talk: Talk) -> None:
        """Handle what happens until the talk ends."""
        while True:
            what, data = await talk.inbox.get()
            match what:
                case "gone":
                    log.warning("the model is gone in talk %s: recovering", talk.session)
                    self._wait_for(talk, "model")
                case "devices_away":
                    self._wait_for(talk, "devices")
                case "devices_back":
                    talk.devices = data["devices"]
                    self._has_back(talk, "devices")
                case "restarted":
                    await self._rejoin(talk)
                case "failed":
                    raise data
                case "ended" if data["reason"] == "model_gone":
                    raise ModelError("the model left the talk")
                case "ended":
                    talk.reason = talk.reason or data["reason"]
                    return
                case _:
                    return

    async def _rejoin(self, talk: Talk) -> None:
        """Go on with the new model; if that one is gone already, wait for the next."""
        try:
            sock = await self._joining.join(talk)
        except ModelError as e:
            log.warning("the model is gone again in talk %s: %s", talk.session, e)
            return
        try:
            with sock:
                await self._audio.rejoin(talk.session, talk.epoch, sock)
        except NoTalk as e:
            log.info("the sound of talk %s has ended: %s", talk.session, e)
            return  # how it ended is in the inbox
        self._has_back(talk, "model")

    def _wait_for(self, talk: Talk, what: str) -> None:
        talk.away.add(what)
        self._enter(talk, TalkState.RECOVERING)

    def _has_back(self, talk: Talk, what: str) -> None:
        """It listens again if that was all it waited for."""
        talk.away.discard(what)
        self._enter(talk, talk.state if talk.away else TalkState.LISTENING)

    async def _close(self, talk: Talk, writing: asyncio.Task[None]) -> None:
        self._enter(talk, TalkState.STOPPING)
        try:
            talk.stats |= await self._audio.stop_talk(talk.session)
        except MoshidError as e:
            log.warning("the sound of talk %s could not be stopped: %s", talk.session, e)
            talk.error = talk.error or e
        try:
            await self._model.end_talk(talk.session)
        except MoshidError as e:
            log.warning("talk %s could not give the model back: %s", talk.session, e)
            talk.error = talk.error or e
        final = TalkState.FAILED if talk.error else TalkState.STOPPED
        await self._finishing.wait_for(self._group.create_task(_keep(talk, writing, final)))
        self._enter(talk, final)
        self._talk = None
        if not talk.started.done():
            talk.started.set_exception(talk.error or NoTalk("the talk was stopped as it started"))
            talk.started.exception()  # the caller may be gone: then nobody else asks for it

    def _enter(self, talk: Talk, state: TalkState) -> None:
        talk.state = next_state(talk.state, state)
        self._tell(talk)

    def _tell(self, talk: Talk, **more: Any) -> None:
        data = {"session": talk.session, "state": talk.state.value, "status": describe(talk)}
        self._bus.publish("talk", data | more, key="talk")

    def _from_model_text(self, talk: Talk, data: dict[str, Any]) -> None:
        word = spoken(talk.session, data)
        talk.kept.add(word)
        self._bus.publish("talk.text", word)

    def _from_audio(self, talk: Talk, event: str, data: dict[str, Any]) -> None:
        match event:
            case "level":
                self._bus.publish("talk.level", data, key="talk.level")
            case "stats":
                talk.stats |= data
                self._tell(talk)
            case "ended":
                talk.stats |= data.get("stats") or {}
                self._last_trace = {"session": talk.session, "spans": data.get("trace") or []}
                talk.inbox.put_nowait(("ended", data))
            case "failed":
                talk.inbox.put_nowait(("failed", data["error"]))
            case "away" | "back":
                talk.inbox.put_nowait((f"devices_{event}", data))
            case "died":
                talk.inbox.put_nowait(("failed", AudioWorkerDied("the audio process ended")))
            case "recording":
                talk.stats |= data
                self._tell(talk, event="recording", **data)
            case _:
                self._bus.publish("talk", {"session": talk.session, "event": event, **data})


async def _keep(talk: Talk, writing: asyncio.Task[None], final: TalkState) -> None:
    """Finish what is kept of a talk that is over."""
    talk.kept.finish()
    await writing
    cut_off = isinstance(talk.error, AudioWorkerDied)
    await talk.kept.close(describe(talk) | {"state": final.value}, cut_off=cut_off)
