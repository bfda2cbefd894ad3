"""One conversation from start to end: the use case that joins model and audio.

Owns the talk's states and its single place (one talk a daemon). It carries no audio: it makes a
socket pair for each session, and again after each restart of the model, and gives one end to each
worker. Everything that happens to a talk arrives in its inbox and is handled by one task.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from typing import Any, Final

from moshid.errors import (
    AudioWorkerDied,
    ModelError,
    ModelNotLoaded,
    ModelWorkerDied,
    MoshidError,
    NoTalk,
    TalkBusy,
)
from moshid.events import Bus
from moshid.model.files import CheckpointPaths
from moshid.settings import Settings
from moshid.talk.ports import AudioPort, LibraryPort, ModelPort
from moshid.talk.request import TalkRequest
from moshid.talk.session import Talk, describe, idle_status
from moshid.talk.states import TalkState, next_state
from moshid.talk.transcript import Transcript

log = logging.getLogger(__name__)

FRAME_S: Final = 0.08


class TalkService:
    """The one talk of this daemon."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        library: LibraryPort,
        model: ModelPort,
        audio: AudioPort,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._library = library
        self._model = model
        self._audio = audio
        self._talk: Talk | None = None
        self._group: asyncio.TaskGroup
        bus.provide_snapshot("talk", lambda: {"status": self.status()})

    async def run(self, *, started: asyncio.Event) -> None:
        """Carry talks until cancelled; a talk that goes on then is stopped in order."""
        async with asyncio.TaskGroup() as self._group:
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                if self._talk is not None:
                    self._ask_to_stop(self._talk, "daemon_stopping")
                    await self._talk.finished.wait()

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
        transcript = Transcript(self._settings.transcripts, session)
        talk = self._talk = Talk(session, request, owner, seed, transcript)
        self._tell(talk)
        talk.opening = asyncio.create_task(self._open(talk), name=f"talk-{session}-opening")
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
        keep = self._settings.talk_keep_transcripts
        writing = self._group.create_task(talk.transcript.write(keep=keep))
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

    async def _open(self, talk: Talk) -> None:
        if talk.request.engine == "echo":
            await self._sound(talk, None, None)
            return
        request = talk.request
        talk.model = request.model or self._model.status()["model"] or self._settings.default_model
        paths = await self._library.ensure(
            talk.model, request.quality, fetch=request.ensure, confirmed=request.confirm
        )
        self._audio.set_codec(paths.codec_spec())
        await self._model.load(paths, model=talk.model, quality=paths.quality)
        with await self._join(talk) as sock:
            await self._sound(talk, paths, sock)

    async def _sound(
        self, talk: Talk, paths: CheckpointPaths | None, sock: socket.socket | None
    ) -> None:
        """Start the audio worker; without a checkpoint it is an echo."""
        delay_frames = paths.delay_frames if paths else 0
        answer = await self._audio.start_talk(
            talk.request.audio(talk.session, talk.epoch, delay_frames=delay_frames),
            paths.codec_spec() if paths else None,
            sock,
            lambda event, data: self._from_audio(talk, event, data),
        )
        talk.devices = answer["devices"]

    async def _join(self, talk: Talk) -> socket.socket:
        """A new epoch on a fresh socket pair: the model takes one end, the other comes back."""
        talk.epoch += 1
        ours, theirs = socket.socketpair()
        try:
            await self._model.begin_talk(
                talk.session,
                talk.epoch,
                theirs,
                talk.request.sampling(talk.seed),
                on_text=lambda data: self._from_model_text(talk, data),
                on_gone=lambda error: talk.inbox.put_nowait(("gone", error)),
                on_restarted=lambda: talk.inbox.put_nowait(("restarted", None)),
                on_failed=lambda error: talk.inbox.put_nowait(("failed", error)),
            )
        except BaseException:
            ours.close()
            raise
        return ours

    async def _follow(self, talk: Talk) -> None:
        """Handle what happens until the talk ends."""
        while True:
            what, data = await talk.inbox.get()
            match what:
                case "gone":
                    log.warning("the model is gone in talk %s: recovering", talk.session)
                    self._enter(talk, TalkState.RECOVERING)
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
            sock = await self._join(talk)
        except (ModelWorkerDied, ModelNotLoaded) as e:
            log.warning("the model is gone again in talk %s: %s", talk.session, e)
            return
        try:
            with sock:
                await self._audio.rejoin(talk.session, talk.epoch, sock)
        except NoTalk as e:
            log.info("the sound of talk %s has ended: %s", talk.session, e)
            return  # how it ended is in the inbox
        self._enter(talk, TalkState.LISTENING)

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
        talk.transcript.finish()
        await writing
        self._enter(talk, TalkState.FAILED if talk.error else TalkState.STOPPED)
        self._talk = None
        if not talk.started.done():
            talk.started.set_exception(talk.error or NoTalk("the talk was stopped as it started"))
            talk.started.exception()  # the caller may be gone: then nobody else asks for it

    def _enter(self, talk: Talk, state: TalkState) -> None:
        talk.state = next_state(talk.state, state)
        self._tell(talk)

    def _tell(self, talk: Talk) -> None:
        data = {"session": talk.session, "state": talk.state.value, "status": describe(talk)}
        self._bus.publish("talk", data, key="talk")

    def _from_model_text(self, talk: Talk, data: dict[str, Any]) -> None:
        word = {
            "session": talk.session,
            "frame": data["frame"],
            "t_s": round(data["frame"] * FRAME_S, 2),
            "text": data["piece"],
        }
        talk.transcript.add(word)
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
                talk.inbox.put_nowait(("ended", data))
            case "failed":
                talk.inbox.put_nowait(("failed", data["error"]))
            case "died":
                talk.inbox.put_nowait(("failed", AudioWorkerDied("the audio process ended")))
            case _:
                self._bus.publish("talk", {"session": talk.session, "event": event, **data})
