"""The audio worker: ``python -m moshid.audio.worker FD LOGLEVEL``. Owns the process, one session.

One main thread does everything but copying sound: it waits in ``select`` for requests and for the
model's frames, no longer than until the next captured frame is complete, and runs the codec in
between. So MLX, which is not thread-safe, lives on one thread. A spare has PortAudio started, on
another thread, and its list of devices kept fresh (``readiness``), but holds no device.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Final

from moshid.audio import request as asked
from moshid.audio.codec import Codec, open_codec
from moshid.audio.hearing import Hearing
from moshid.audio.link import FrameLink
from moshid.audio.opening import find_devices, offered, open_conversation, open_ends
from moshid.audio.readiness import LOOK_S, Readiness
from moshid.audio.session import Plan, Session
from moshid.errors import (
    AudioError,
    DeviceFailed,
    InternalError,
    InvalidParams,
    MethodNotFound,
    MoshidError,
    NoTalk,
    TalkBusy,
)
from moshid.urgency import Urgency
from moshid.worker_base import Control, Request, connect, end_in_order

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""The PortAudio callback waits for the GIL at most about this long, not Python's usual 5 ms."""

DRAIN_S_MAX: Final = 0.5
NAP_S: Final = 3600.0


class Worker:
    """Serves requests and steps the session until ``shutdown``."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._session: Session | None = None
        self._last_stats: dict[str, Any] = {}
        self._codec: Codec | None = None
        self._codec_spec: asked.CodecSpec | None = None
        self._urgency = Urgency()
        self._readiness = Readiness()
        self._running = True
        self.device_failed = False
        """Whether a device has gone, or did not let go: PortAudio cannot be ended in order."""

    def run(self) -> None:
        """The main loop."""
        self._readiness.start()
        while self._running:
            self._wait()
            idle = self._session is None and not self.device_failed
            if idle and not self._readiness.holds():
                log.info("the sound devices have changed: a new process takes this one's place")
                self.device_failed = True
                return
            while (request := self._control.take()) is not None:
                self._serve(request)
            if self._session is not None:
                self._step(self._session)

    def close(self) -> None:
        """Finish the session's files, if there is one, and end the codec's processes."""
        if self._session is not None:
            self._last_stats = self._session.finish()
        if self._codec is not None:
            self._codec.close()

    @property
    def may_end_port_audio(self) -> bool:
        """Whether that takes no time. After a session nobody can know: its sound server may hang,
        or have gone, and then PortAudio's JACK part waits for it for ever, or aborts. Nor may it
        while it starts."""
        return not (self.device_failed or self._last_stats or self._readiness.starting)

    def _wait(self) -> None:
        readers: list[Any] = [self._control.wake_fd]
        wait_s = LOOK_S if self._readiness.started else NAP_S
        if self._session is not None:
            wait_s = self._session.wait_s()
            if self._session.link is not None:
                readers.append(self._session.link)
        select.select(readers, [], [], wait_s)

    def _serve(self, request: Request) -> None:
        self._control.busy_with = request.method
        try:
            self._control.reply(request, self._answer(request))
        except MoshidError as e:
            self._control.fail(request, e)
        except Exception:
            log.exception("%s failed", request.method)
            self._control.fail(request, InternalError(f"audio worker: {request.method} failed"))
        finally:
            for fd in request.fds:
                os.close(fd)
            self._control.busy_with = "talk" if self._session else "idle"

    def _answer(self, request: Request) -> dict[str, Any]:
        match request.method:
            case "prepare":
                return self._prepare(asked.parse(request.params, asked.Prepare))
            case "start":
                return self._start(asked.parse(request.params, asked.Start), request)
            case "rejoin":
                return self._rejoin(asked.parse(request.params, asked.Rejoin), request)
            case "set":
                return self._set(asked.parse(request.params, asked.ControlChanges))
            case "stop":
                asked.parse(request.params, asked.Stop)
                return self._stop()
            case "leave":
                asked.parse(request.params, asked.Nothing)
                return self._leave()
            case "status":
                asked.parse(request.params, asked.Nothing)
                return self._session.stats() if self._session else self._last_stats
            case "trace":
                asked.parse(request.params, asked.Nothing)
                return {"spans": self._session.report.trace.spans() if self._session else []}
            case "devices":
                asked.parse(request.params, asked.Nothing)
                self._readiness.wait()
                return offered()
            case "find":
                self._readiness.wait()
                find_devices(asked.parse(request.params, asked.Find))
                return {}
            case "shutdown":
                self._running = False
                return self._stop() if self._session else {}
            case _:
                raise MethodNotFound(f"the audio worker has no method {request.method!r}")

    def _prepare(self, params: asked.Prepare) -> dict[str, Any]:
        begun_s = time.monotonic()
        if params.codec != self._codec_spec:
            self._refuse_during_talk()
            if self._codec is not None:
                self._codec.close()
                self._codec = self._codec_spec = None
            self._codec, self._codec_spec = open_codec(params.codec), params.codec
        return {"prepare_s": round(time.monotonic() - begun_s, 4)}

    def _start(self, params: asked.Start, request: Request) -> dict[str, Any]:
        self._refuse_during_talk()
        if params.in_file is None or params.out_file is None:
            self._readiness.wait()
        echo = params.engine == "echo"
        if not echo and self._codec is None:
            raise InvalidParams("`prepare` a codec before `start`")
        if not echo and not request.fds:
            raise InvalidParams("`start` needs the frame socket's descriptor")
        codec = None if echo else self._codec
        if codec is not None:
            codec.reset()
        tail_frames = params.delay_frames + codec.tail_frames if codec else 0
        if not params.fast:
            self._urgency.raise_()  # before PortAudio starts its threads, which inherit it
            if codec is not None:
                codec.hurry()
        ends = open_ends(params, tail_frames)
        conversation = open_conversation(params, ends)
        # A file cuts itself short, so that the tail of silence still follows.
        seconds = params.seconds if params.in_file is None else None
        plan = Plan(params.session, params.epoch, params.delay_frames, seconds, params.first_frame)
        hearing = Hearing(params, ends.source, ends.sink)
        self._session = Session(
            plan,
            ends.source,
            ends.sink,
            self._control.tell,
            codec=codec,
            link=None if echo else _take_link(request),
            hearing=hearing,
            conversation=conversation,
        )
        self._tell_state("listening")
        if hearing.warning is not None:
            log.warning("%s", hearing.warning)
            self._control.notify("warning", {"message": hearing.warning})
        return {
            "devices": {"input": ends.source.facts, "output": ends.sink.facts},
            "sample_rate": ends.rate,
            "stats": self._session.stats(),
        }

    def _rejoin(self, params: asked.Rejoin, request: Request) -> dict[str, Any]:
        if self._session is None:
            raise NoTalk("there is no session to rejoin")
        if not request.fds:
            raise InvalidParams("`rejoin` needs the frame socket's descriptor")
        self._session.rejoin(params.epoch, _take_link(request))
        return {}

    def _set(self, changes: asked.ControlChanges) -> dict[str, Any]:
        if self._session is None:
            raise NoTalk("there is no session to change")
        return self._session.set(changes)

    def _stop(self) -> dict[str, Any]:
        session = self._session
        if session is not None:
            session.ended = session.ended or "stopped"
            self._end(session)
            if session.unfinished is not None:
                raise session.unfinished
        elif not self._last_stats:
            raise NoTalk("there is no session to stop")
        return self._last_stats

    def _leave(self) -> dict[str, Any]:
        """Let go of the devices; another process takes over, so the model is told nothing."""
        if self._session is None:
            raise NoTalk("there is no session to leave")
        self._last_stats = self._session.finish(say_end=False)
        self._session = None
        self._urgency.lower()
        self.device_failed = True  # nothing more is to be asked of PortAudio here
        return self._last_stats

    def _refuse_during_talk(self) -> None:
        if self._session is not None:
            raise TalkBusy("this worker already runs a session")

    def _step(self, session: Session) -> None:
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
        self._session = None
        self._urgency.lower()

    def _tell_end(self, session: Session, error: MoshidError | None) -> None:
        self._tell_state("stopped" if error is None else "failed", error)
        self._control.notify("ended", session.report.end(session.ended, self._last_stats))

    def _tell_state(self, state: str, error: MoshidError | None = None) -> None:
        assert self._session is not None
        data: dict[str, Any] = {"session": self._session.plan.session, "state": state}
        if error is not None:
            data["error"] = {"message": error.message, **error.to_data()}
        self._control.notify("state", data)


def _take_link(request: Request) -> FrameLink:
    return FrameLink(socket.socket(fileno=request.fds.pop(0)))


def main() -> None:
    """Serve the daemon until it says ``shutdown`` or goes away."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    control = connect(on_orphaned=end_in_order)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    control.start()
    worker = Worker(control)
    try:
        worker.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # not again, while files are finished
        worker.close()
        if not worker.may_end_port_audio:  # as it would be through atexit
            logging.shutdown()
            os._exit(0)


if __name__ == "__main__":
    main()
