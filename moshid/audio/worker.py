"""The audio worker: ``python -m moshid.audio.worker FD LOGLEVEL``. Owns the process.

It serves one session (``sole_session``), and then makes way for another process. One main thread
does everything but copying sound: it waits in ``select`` for requests and for the model's frames,
no longer than until the next captured frame is complete, and runs the codec in between. So MLX,
which is not thread-safe, lives on one thread. A spare has PortAudio started, on another thread, and
its list of devices kept fresh (``readiness``), but holds no device.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from typing import Any, Final

from moshid.audio import request as asked
from moshid.audio.codec import Codec, open_codec
from moshid.audio.opening import find_devices, offered
from moshid.audio.readiness import LOOK_S, Readiness
from moshid.audio.sole_session import SoleSession
from moshid.errors import InternalError, MethodNotFound, MoshidError
from moshid.worker_base import Control, Request, connect, end_in_order

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S: Final = 0.0005
"""The PortAudio callback waits for the GIL at most about this long, not Python's usual 5 ms."""

NAP_S: Final = 3600.0


class Worker:
    """Serves requests and steps the session until ``shutdown``."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._sole = SoleSession(control)
        self._codec: Codec | None = None
        self._codec_spec: asked.CodecSpec | None = None
        self._readiness = Readiness()
        self._running = True

    def run(self) -> None:
        """The main loop."""
        self._readiness.start()
        while self._running:
            self._wait()
            idle = self._sole.session is None and not self._sole.device_failed
            if idle and not self._readiness.holds():
                log.info("the sound devices have changed: a new process takes this one's place")
                self._sole.device_failed = True
                return
            while (request := self._control.take()) is not None:
                self._serve(request)
            self._sole.step()

    def close(self) -> None:
        """Finish the session's files, if there is one, and end the codec's processes."""
        self._sole.close()
        if self._codec is not None:
            self._codec.close()

    @property
    def may_end_port_audio(self) -> bool:
        """Whether that takes no time. After a session nobody can know: its sound server may hang,
        or have gone, and then PortAudio's JACK part waits for it for ever, or aborts. Nor may it
        while it starts."""
        sole = self._sole
        return not (sole.device_failed or sole.was_begun or self._readiness.starting)

    def _wait(self) -> None:
        readers: list[Any] = [self._control.wake_fd]
        wait_s = LOOK_S if self._readiness.started else NAP_S
        if (session := self._sole.session) is not None:
            wait_s = session.wait_s()
            if session.link is not None:
                readers.append(session.link)
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
            self._control.busy_with = "talk" if self._sole.session else "idle"

    def _answer(self, request: Request) -> dict[str, Any]:
        match request.method:
            case "prepare":
                return self._prepare(asked.parse(request.params, asked.Prepare))
            case "start":
                return self._start(asked.parse(request.params, asked.Start), request)
            case "rejoin":
                return self._sole.rejoin(asked.parse(request.params, asked.Rejoin), request)
            case "set":
                return self._sole.set(asked.parse(request.params, asked.ControlChanges))
            case "stop":
                asked.parse(request.params, asked.Stop)
                return self._sole.stop()
            case "leave":
                asked.parse(request.params, asked.Nothing)
                return self._sole.leave()
            case "status":
                asked.parse(request.params, asked.Nothing)
                return self._sole.stats()
            case "trace":
                asked.parse(request.params, asked.Nothing)
                return {"spans": self._sole.spans()}
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
                return self._sole.stop() if self._sole.session else {}
            case _:
                raise MethodNotFound(f"the audio worker has no method {request.method!r}")

    def _prepare(self, params: asked.Prepare) -> dict[str, Any]:
        begun_s = time.monotonic()
        if params.codec != self._codec_spec:
            self._sole.refuse()
            if self._codec is not None:
                self._codec.close()
                self._codec = self._codec_spec = None
            self._codec, self._codec_spec = open_codec(params.codec), params.codec
        return {"prepare_s": round(time.monotonic() - begun_s, 4)}

    def _start(self, params: asked.Start, request: Request) -> dict[str, Any]:
        self._sole.refuse()
        if params.in_file is None or params.out_file is None:
            self._readiness.wait()
        return self._sole.start(params, self._codec, request)


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
