"""The model worker: ``python -m moshid.model.worker FD LOGLEVEL``. Its main thread does all of MLX.

Owns the loaded engine and at most one talk. It waits on two descriptors, the control socket's and
the talk's, and is done when told to shut down; unloading the model is the end of the process. So
is a sick model: the worker says which fault it was and leaves at once, and the daemon starts
another in its place.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from moshid import worker_base
from moshid.errors import (
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    ModelOutOfMemory,
    ModelStepFailed,
    ModelStuck,
    MoshidError,
    NoTalk,
    NotFinite,
    TalkBusy,
)
from moshid.model import bench, messages, metal, mlx_engine
from moshid.model.engine import Sampling
from moshid.model.load_progress import Progress, sparingly
from moshid.model.messages import FAULT_EXIT_CODE, EndReason, parse, plain
from moshid.model.monitor import LocalEngine, Monitor, as_known
from moshid.model.quantised_writer import CopyWriter, Keep
from moshid.model.sessions import TalkSession
from moshid.model.timings import StepTimes
from moshid.urgency import Urgency
from moshid.worker_base import Control, Request

log = logging.getLogger(__name__)

COPY_PATIENCE_S: Final = 3.0
"""Being told to shut down, it waits so long for a quantised copy that is not quite written: what
is left of it then is little (see ``quantised_writer``), and making it again takes a load's time."""

STATS_EVERY_FRAMES = 12
"""About a second of talk."""

WARM_FOR_S: Final = 0.5
"""So long after a step the device is warm."""

SICK: Final = (NotFinite, ModelStuck, ModelOutOfMemory, ModelStepFailed)
"""After one of these in a step, nothing that this process computes can be trusted."""

Load = Callable[[Path | None, Path, Path, str, Progress, Keep | None], LocalEngine]


class ModelWorker:
    """Serves the daemon's requests and one talk's frames until ``shutdown``, or a fault."""

    def __init__(self, control: Control, load: Load = mlx_engine.load) -> None:
        self._control = control
        self._load_engine = load
        self._monitor: Monitor | None = None
        self._talk: TalkSession | None = None
        self._last_ended: tuple[str, int] | None = None
        self._exit_code: int | None = None
        self._copies: list[CopyWriter] = []
        self._urgency = Urgency()
        self._methods: dict[str, Callable[[Request], dict[str, Any]]] = {
            "load": self._load,
            "talk": self._start_talk,
            "talk_stop": self._stop_talk,
            "status": lambda _request: plain(self._stats()),
            "bench": self._bench,
            "pulse": self._pulse,
            "shutdown": self._shutdown,
        }

    def run(self) -> int:
        """Serve until told to shut down, or a fault; the exit code."""
        while self._exit_code is None:
            self._control.busy_with = "a talk" if self._talk else "nothing"
            self._wait()
            while (request := self._control.take()) is not None:
                self._control.busy_with = request.method
                self._handle(request)
            if self._talk is not None and self._exit_code is None:
                self._serve(self._talk)
        return self._exit_code

    def _wait(self) -> None:
        talk = self._talk
        fds = [self._control.wake_fd] + ([talk.fileno()] if talk else [])
        select.select(fds, [], [], 0.0 if talk and talk.has_frames else None)

    def _handle(self, request: Request) -> None:
        method = self._methods.get(request.method)
        try:
            if method is None:
                raise InvalidParams(f"the model worker has no method {request.method!r}")
            self._control.reply(request, method(request))
        except MoshidError as e:
            self._control.fail(request, e)
            if self._monitor is not None and isinstance(e, SICK):
                self._leave(e)
        except Exception:
            log.exception("%s failed", request.method)
            self._control.fail(request, InternalError("the model worker failed: see the log"))
        finally:
            for fd in request.fds:
                os.close(fd)

    def _load(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.LoadParams)
        if self._monitor is not None:
            raise InvalidParams("this worker has a model already")
        begun = time.perf_counter()
        engine = self._load_engine(
            Path(params.config) if params.config else None,
            Path(params.weights),
            Path(params.tokenizer),
            params.quality,
            self._progress(),
            self._keep(params.store),
        )
        metal.apply(engine.footprint)
        loaded = time.perf_counter()
        monitor = self._warm_up(engine, params.seed)
        facts, step_ms = engine.facts, monitor.times.percentiles()
        assert step_ms is not None
        answer = messages.Loaded(
            load_s=round(loaded - begun, 3),
            warmup_s=round(time.perf_counter() - loaded, 3),
            memory_bytes=engine.memory_bytes(),
            codebooks_user=facts.codebooks_user,
            codebooks_model=facts.codebooks_model,
            delay_frames=facts.delay_frames,
            text_vocab=facts.text_vocab,
            quality=params.quality,
            step_ms=step_ms,
            last_step=monitor.last_step,
        )
        monitor.times = StepTimes()
        self._monitor = monitor
        return plain(answer)

    def _warm_up(self, engine: LocalEngine, seed: int) -> Monitor:
        """The first steps, which compile what there is to compile; no limit is set to them."""
        self._control.notify("progress", {"stage": "warming", "fraction": 0.0})
        monitor = Monitor(engine, self._control.activity)
        try:
            times_ms = engine.warm_up()
        except (MemoryError, RuntimeError) as e:
            raise as_known(e) from e
        for ms in times_ms:
            monitor.times.add(ms)
            monitor.note(ms)
        monitor.begin(seed, Sampling())
        self._control.notify("progress", {"stage": "warming", "fraction": 1.0})
        return monitor

    def _progress(self) -> Progress:
        """Tells the daemon."""
        return sparingly(lambda advance: self._control.notify("progress", advance.as_event()))

    def _keep(self, folder: str | None) -> Keep | None:
        """Where quantised copies are kept; the daemon is told of each end."""
        if folder is None:
            return None
        return Keep(
            Path(folder),
            lambda o: self._notify("quantised", messages.Kept(str(o.path), o.size_bytes, o.error)),
            self._copies.append,
        )

    def _start_talk(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.TalkRequest)
        monitor = self._need_model()
        if len(request.fds) != 1:
            raise InvalidParams(f"talk comes with one descriptor, not {len(request.fds)}")
        if self._talk is not None and self._talk.session != params.session:
            raise TalkBusy(f"the model is in talk {self._talk.session}")
        self._end_talk("replaced")
        self._urgency.raise_()
        monitor.warm(params.seed, _sampling(params))  # when this is answered the microphone opens
        monitor.times = StepTimes()
        sock = socket.socket(fileno=request.fds.pop())
        self._talk = TalkSession(params.session, params.epoch, sock, monitor, self._notify)
        return {}

    def _stop_talk(self, request: Request) -> dict[str, Any]:
        session = request.params.get("session")
        if self._talk is not None and self._talk.session == session:
            self._end_talk("stopped")
        if self._last_ended is None or self._last_ended[0] != session:
            raise NoTalk(f"the model is in no talk {session}")
        return {"frames": self._last_ended[1]}

    def _serve(self, talk: TalkSession) -> None:
        before = talk.frames
        try:
            ended = talk.serve_one()
        except SICK as e:
            self._leave(e)
            return
        if talk.frames > before and talk.frames % STATS_EVERY_FRAMES == 0:
            self._notify("stats", self._stats())
        if ended is not None:
            self._end_talk(ended)

    def _leave(self, fault: MoshidError) -> None:
        """Say what is wrong and end: a talk then waits for the next process."""
        log.error("the model is sick: %s", fault.message, extra={"kind": fault.kind})
        self._control.notify("fault", {"message": fault.message, **fault.to_data()})
        self._exit_code = FAULT_EXIT_CODE

    def _end_talk(self, reason: EndReason) -> None:
        if (talk := self._talk) is None:
            return
        self._talk = None
        self._urgency.lower()
        self._last_ended = (talk.session, talk.frames)
        talk.close()
        self._need_model().engine.forget()
        self._notify("stats", self._stats())
        self._notify("talk_ended", messages.TalkEnded(talk.session, talk.frames, reason))
        log.info("talk ended", extra={"session": talk.session, "reason": reason})

    def _stats(self) -> messages.Stats:
        monitor = self._monitor
        return messages.Stats(
            step_ms=monitor.times.percentiles() if monitor else None,
            frames=self._talk.frames if self._talk else 0,
            memory_bytes=monitor.engine.memory_bytes() if monitor else 0,
            last_step_age_s=monitor.times.last_age_s() if monitor else None,
            last_step=monitor.last_step if monitor else None,
        )

    def _pulse(self, _request: Request) -> dict[str, Any]:
        """Keep the device warm, and show that the model works; a talk's own frames do as well."""
        monitor = self._need_model()
        talk = self._talk
        if talk is None or not (talk.has_frames or monitor.stepped_within(WARM_FOR_S)):
            monitor.pulse()
        return plain(self._stats())

    def _bench(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.BenchParams)
        monitor = self._need_model()
        if self._talk is not None:
            raise TalkBusy(f"the model is in talk {self._talk.session}")
        return plain(bench.run(monitor, params, lambda: self._control.has_requests))

    def _shutdown(self, _request: Request) -> dict[str, Any]:
        self._end_talk("stopped")
        for copy in self._copies:
            copy.ended_within(COPY_PATIENCE_S)
        self._exit_code = 0
        return {}

    def _need_model(self) -> Monitor:
        if self._monitor is None:
            raise ModelNotLoaded("this worker has no model yet")
        return self._monitor

    def _notify(self, event: str, data: msgspec.Struct) -> None:
        self._control.notify(event, plain(data))


def _sampling(params: messages.TalkParams) -> Sampling:
    """The part of a talk's parameters that says how to draw."""
    names = (f.name for f in dataclasses.fields(Sampling))
    return Sampling(**{name: getattr(params, name) for name in names})


def serve(load: Load = mlx_engine.load) -> None:
    """Connect to the daemon and serve it; a sick model's process is left as it is."""
    control = worker_base.connect()
    control.start()
    if code := ModelWorker(control, load).run():
        logging.shutdown()
        os._exit(code)


def main() -> None:
    """The entry point."""
    serve()


if __name__ == "__main__":
    main()
