"""Joins model and audio worker to a talk: files, model, sound, and the socket between the two.

It carries no audio: it makes a socket pair for each session, and again after each restart of the
model, and gives one end to each worker.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moshid.errors import BadAudioFile
from moshid.model.files import CheckpointPaths
from moshid.model.states import State
from moshid.settings import Settings
from moshid.talk.ports import AudioPort, LibraryPort, ModelPort
from moshid.talk.request import TalkRequest
from moshid.talk.session import Talk, facts

FILES_S_MAX: Final = 10.0
"""A drive that spins up takes less."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told what the workers say of a talk."""

    audio: Callable[[Talk, str, dict[str, Any]], None]
    text: Callable[[Talk, dict[str, Any]], None]


class Joining:
    """Opens talks, and joins them anew."""

    def __init__(
        self,
        settings: Settings,
        library: LibraryPort,
        model: ModelPort,
        audio: AudioPort,
        told: Told,
    ) -> None:
        self._settings = settings
        self._library = library
        self._model = model
        self._audio = audio
        self._told = told

    async def open(self, talk: Talk) -> None:
        """Bring a new talk to where it listens.

        Raises:
            MoshidError: whatever kept it from that.
        """
        request = talk.request
        await check_files(request)
        if request.engine == "echo":
            await self._sound(talk, None, None)
            return
        talk.model = request.model or self._model.status()["model"] or self._settings.default_model
        paths = await self._library.ensure(
            talk.model,
            request.quality,
            fetch=request.ensure,
            confirmed=request.confirm,
            before=lambda: self._find_devices(talk),
        )
        await self._find_devices(talk)
        talk.quality = paths.quality
        self._audio.set_codec(paths.codec_spec())
        await self._model.load(
            paths,
            model=talk.model,
            quality=paths.quality,
            keep_alive=request.keep_alive,
            session=talk.session,
        )
        talk.epoch += 1
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # At the same time: the devices open while the model gets ready.
            sound = asyncio.ensure_future(self._sound(talk, paths, ours))
            try:
                await self._begin(talk, theirs)
            except BaseException:
                sound.cancel()
                await asyncio.wait({sound})
                raise
            await sound

    async def _find_devices(self, talk: Talk) -> None:
        """Nobody waits for gigabytes to be told at last that there is no microphone. With the model
        ready the devices are opened at once, which tells as much."""
        ends, model = talk.request.ends(), self._model.status()
        between_files = ends["in_file"] is not None and ends["out_file"] is not None
        is_ready = (model["model"], model["state"]) == (talk.model, State.READY)
        if not between_files and not is_ready:
            await self._audio.find_devices(ends)

    async def _sound(
        self, talk: Talk, paths: CheckpointPaths | None, sock: socket.socket | None
    ) -> None:
        """Start the audio worker; without a checkpoint it is an echo."""
        delay_frames = paths.delay_frames if paths else 0
        params = talk.request.audio(talk.session, talk.epoch, delay_frames=delay_frames)
        params |= {"pause_s_max": self._settings.talk_pause_max_s}
        params |= await talk.kept.announce()
        answer = await self._audio.start_talk(
            params,
            paths.codec_spec() if paths else None,
            sock,
            lambda event, data: self._told.audio(talk, event, data),
        )
        talk.devices = answer["devices"]
        talk.stats |= answer.get("stats") or {}
        await talk.kept.begin(facts(talk), delay_frames=delay_frames)

    async def join(self, talk: Talk) -> socket.socket:
        """A new epoch on a fresh socket pair: the model takes one end, the other comes back.

        Raises:
            MoshidError: the model is gone.
        """
        talk.epoch += 1
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._begin(talk, theirs)
            except BaseException:
                ours.close()
                raise
        return ours

    async def _begin(self, talk: Talk, theirs: socket.socket) -> None:
        await self._model.begin_talk(
            talk.session,
            talk.epoch,
            theirs,
            talk.request.sampling(talk.seed),
            on_text=lambda data: self._told.text(talk, data),
            on_gone=lambda error: talk.inbox.put_nowait(("gone", error)),
            on_restarted=lambda: talk.inbox.put_nowait(("restarted", None)),
            on_failed=lambda error: talk.inbox.put_nowait(("failed", error)),
        )


async def check_files(request: TalkRequest, limit_s: float = FILES_S_MAX) -> None:
    """As ``TalkRequest.check_files``, off the event loop.

    Raises:
        InvalidParams, BadAudioFile: as there; or the disk says nothing at all.
    """
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.to_thread(request.check_files)
    except TimeoutError as e:
        files = " or ".join(filter(None, (request.in_file, request.out_file)))
        raise BadAudioFile(
            f"the disk says nothing of {files} for {limit_s:g} s",
            hint="Is it asleep, or on a network that is away? Give a file on another disk.",
        ) from e
