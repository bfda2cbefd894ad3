"""The one session of an audio process: begun, stepped, and ended in whatever way. Owns its life.

What happens to it is told to the daemon here: its states, its end, and the numbers of that moment,
which stay when it is over. The worker (``worker``) decides when; the session (``session``) does the
work.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any, Final

from moshid.audio import request as asked
from moshid.audio.codec import Codec
from moshid.audio.hearing import Hearing
from moshid.audio.link import FrameLink
from moshid.audio.opening import Ends, open_conversation, open_ends
from moshid.audio.session import Plan, Session
from moshid.errors import (
    AudioError,
    DeviceFailed,
    InternalError,
    InvalidParams,
    MoshidError,
    NoTalk,
    TalkBusy,
)
from moshid.urgency import Urgency
from moshid.worker_base import Control, Request

log = logging.getLogger(__name__)

DRAIN_S_MAX: Final = 0.5


class SoleSession:
    """None yet, one, or one that is over."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._urgency = Urgency()
        self._last_stats: dict[str, Any] = {}
        self.session: Session | None = None
        self.device_failed = False
        """Whether a device has gone, or did not let go: PortAudio cannot be ended in order."""

    @property
    def was_begun(self) -> bool:
        """Whether there is or was one that told its numbers."""
        return bool(self._last_stats)

    def stats(self) -> dict[str, Any]:
        """Its numbers now, or at its end; none before."""
        return self.session.stats() if self.session else self._last_stats

    def spans(self) -> list[Any]:
        """Those of the newest frames (see ``trace``)."""
        return self.session.report.trace.spans() if self.session else []

    def refuse(self) -> None:
        """Raises TalkBusy: there is one."""
        if self.session is not None:
            raise TalkBusy("this worker already runs a session")

    def start(self, params: asked.Start, codec: Codec | None, request: Request) -> dict[str, Any]:
        """Open everything, once ``refuse`` has not; → ``{devices, sample_rate, stats}``.

        Args:
            params: what was asked for.
            codec: what is prepared; a session with a model needs one.
            request: its descriptor is the frame socket's.

        Raises:
            InvalidParams: something is missing that it needs.
            AudioError: a device or file cannot be opened.
        """
        echo = params.engine == "echo"
        if not echo and codec is None:
            raise InvalidParams("`prepare` a codec before `start`")
        if not echo and not request.fds:
            raise InvalidParams("`start` needs the frame socket's descriptor")
        codec = None if echo else codec
        if codec is not None:
            codec.reset()
        if not params.fast:
            self._urgency.raise_()  # before PortAudio starts its threads, which inherit it
            if codec is not None:
                codec.hurry()
        ends = open_ends(params, params.delay_frames + codec.tail_frames if codec else 0)
        hearing = self._begin(params, ends, codec, request)
        self._tell_state("listening")
        if hearing.warning is not None:
            log.warning("%s", hearing.warning)
            self._control.notify("warning", {"message": hearing.warning})
        return {
            "devices": {"input": ends.source.facts, "output": ends.sink.facts},
            "sample_rate": ends.rate,
            "stats": self.stats(),
        }

    def rejoin(self, params: asked.Rejoin, request: Request) -> dict[str, Any]:
        """Go on with a new model. Raises NoTalk, InvalidParams."""
        if self.session is None:
            raise NoTalk("there is no session to rejoin")
        if not request.fds:
            raise InvalidParams("`rejoin` needs the frame socket's descriptor")
        self.session.rejoin(params.epoch, _take_link(request))
        return {}

    def set(self, changes: asked.ControlChanges) -> dict[str, Any]:
        """Change what a user may change; all of it, as it is now. Raises NoTalk."""
        if self.session is None:
            raise NoTalk("there is no session to change")
        return self.session.set(changes)

    def step(self) -> None:
        """Do what is due, and end what is over."""
        session = self.session
        if session is None:
            return
        try:
            session.step()
        except AudioError as e:
            self._fail(session, e)
        except Exception:
            log.exception("the session failed")
            self._fail(session, InternalError("the audio loop failed"))
        else:
            if session.ended is not None:
                self._end(session)

    def stop(self) -> dict[str, Any]:
        """End it, if it has not ended; its last numbers.

        Raises:
            NoTalk: there was none.
            BadAudioFile: the end of its output could not be written.
        """
        session = self.session
        if session is not None:
            session.ended = session.ended or "stopped"
            self._end(session)
            if session.unfinished is not None:
                raise session.unfinished
        elif not self.was_begun:
            raise NoTalk("there is no session to stop")
        return self._last_stats

    def leave(self) -> dict[str, Any]:
        """Let go of the devices; another process takes over, so the model is told nothing.

        Raises:
            NoTalk: there is none.
        """
        if self.session is None:
            raise NoTalk("there is no session to leave")
        self._last_stats = self.session.finish(say_end=False)
        self.session = None
        self._urgency.lower()
        self.device_failed = True  # nothing more is to be asked of PortAudio here
        return self._last_stats

    def close(self) -> None:
        """The process ends: finish its files, if there is one."""
        if self.session is not None:
            self._last_stats = self.session.finish()

    def _begin(
        self, params: asked.Start, ends: Ends, codec: Codec | None, request: Request
    ) -> Hearing:
        """The session between ``ends``; without a codec it is an echo."""
        conversation = open_conversation(params, ends)
        # A file cuts itself short, so that the tail of silence still follows.
        seconds = params.seconds if params.in_file is None else None
        plan = Plan(params.session, params.epoch, params.delay_frames, seconds, params.first_frame)
        hearing = Hearing(params, ends.source, ends.sink)
        self.session = Session(
            plan,
            ends.source,
            ends.sink,
            self._control.tell,
            codec=codec,
            link=None if codec is None else _take_link(request),
            hearing=hearing,
            conversation=conversation,
        )
        return hearing

    def _fail(self, session: Session, error: MoshidError) -> None:
        log.warning("the session failed: %s", error.message)
        session.ended = "device"
        self.device_failed = isinstance(error, DeviceFailed)
        self._end(session, error)

    def _end(self, session: Session, error: MoshidError | None = None) -> None:
        if error is None:
            self._tell_state("stopping")
            time.sleep(min(DRAIN_S_MAX, session.sink.pending_s()))
            self._last_stats = session.finish()
            self._tell_end(session, session.unfinished)
        else:
            # Told first: to close the stream of a server that died may take long.
            self._last_stats = session.stats()
            self._tell_end(session, error)
            session.finish(say_end=not self.device_failed)
        self.session = None
        self._urgency.lower()

    def _tell_end(self, session: Session, error: MoshidError | None) -> None:
        self._tell_state("stopped" if error is None else "failed", error)
        self._control.notify("ended", session.report.end(session.ended, self._last_stats))

    def _tell_state(self, state: str, error: MoshidError | None = None) -> None:
        assert self.session is not None
        data: dict[str, Any] = {"session": self.session.plan.session, "state": state}
        if error is not None:
            data["error"] = {"message": error.message, **error.to_data()}
        self._control.notify("state", data)


def _take_link(request: Request) -> FrameLink:
    return FrameLink(socket.socket(fileno=request.fds.pop(0)))
