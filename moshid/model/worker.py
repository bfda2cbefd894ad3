"""The model worker: ``python -m moshid.model.worker FD LOGLEVEL``. Its main thread does all of MLX.

Owns the loaded engine and at most one talk. It waits on two descriptors, the control socket's and
the talk's, and is done when told to shut down; unloading the model is the end of the process.
"""

from __future__ import annotations

import logging
import os
import random
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from moshid import worker_base
from moshid.errors import (
    InternalError,
    InvalidParams,
    ModelError,
    ModelNotLoaded,
    MoshidError,
    NoTalk,
    TalkBusy,
)
from moshid.model import messages, mlx_engine
from moshid.model.engine import FRAME_BUDGET_MS, Sampling
from moshid.model.messages import EndReason, parse, plain
from moshid.model.sessions import TalkSession
from moshid.model.timings import StepTimes
from moshid.model.weights import Progress
from moshid.worker_base import Control, Request

log = logging.getLogger(__name__)

STATS_EVERY_FRAMES = 12
"""About a second of talk."""

PROGRESS_STEP = 0.02


class ModelWorker:
    """Serves the daemon's requests and one talk's frames until ``shutdown``."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._engine: mlx_engine.MlxEngine | None = None
        self._talk: TalkSession | None = None
        self._last_ended: tuple[str, int] | None = None
        self._times = StepTimes()
        self._done = False
        self._methods: dict[str, Callable[[Request], dict[str, Any]]] = {
            "load": self._load,
            "talk": self._start_talk,
            "talk_stop": self._stop_talk,
            "status": lambda _request: plain(self._stats()),
            "bench": self._bench,
            "shutdown": self._shutdown,
        }

    def run(self) -> None:
        """Serve until told to shut down."""
        while not self._done:
            self._control.busy_with = "a talk" if self._talk else "nothing"
            self._wait()
            while (request := self._control.take()) is not None:
                self._control.busy_with = request.method
                self._handle(request)
            if self._talk is not None:
                self._serve(self._talk)

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
        except Exception:
            log.exception("%s failed", request.method)
            self._control.fail(request, InternalError("the model worker failed: see the log"))
        finally:
            for fd in request.fds:
                os.close(fd)

    def _load(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.LoadParams)
        if self._engine is not None:
            raise InvalidParams("this worker has a model already")
        begun = time.perf_counter()
        engine = mlx_engine.load(
            Path(params.config) if params.config else None,
            Path(params.weights),
            Path(params.tokenizer),
            params.quality,
            self._progress(),
        )
        loaded = time.perf_counter()
        self._control.notify("progress", {"stage": "warming", "fraction": 0.0})
        for ms in engine.warm_up():
            self._times.add(ms)
        warm = time.perf_counter()
        engine.begin(params.seed, Sampling())
        self._engine = engine
        self._control.notify("progress", {"stage": "warming", "fraction": 1.0})
        step_ms = self._times.percentiles()
        assert step_ms is not None
        facts = engine.facts
        answer = messages.Loaded(
            load_s=round(loaded - begun, 3),
            warmup_s=round(warm - loaded, 3),
            memory_bytes=engine.memory_bytes(),
            codebooks_user=facts.codebooks_user,
            codebooks_model=facts.codebooks_model,
            delay_frames=facts.delay_frames,
            text_vocab=facts.text_vocab,
            quality=params.quality,
            step_ms=step_ms,
        )
        self._times = StepTimes()
        return plain(answer)

    def _progress(self) -> Progress:
        """Tells the daemon, not more often than every ``PROGRESS_STEP``."""
        told = -1.0

        def tell(stage: str, fraction: float) -> None:
            nonlocal told
            if fraction - told >= PROGRESS_STEP or fraction >= 1.0:
                told = fraction
                self._control.notify("progress", {"stage": stage, "fraction": round(fraction, 3)})

        return tell

    def _start_talk(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.TalkRequest)
        engine = self._need_engine()
        if len(request.fds) != 1:
            raise InvalidParams(f"talk comes with one descriptor, not {len(request.fds)}")
        if self._talk is not None and self._talk.session != params.session:
            raise TalkBusy(f"the model is in talk {self._talk.session}")
        self._end_talk("replaced")
        sampling = Sampling(
            params.text_temperature,
            params.text_top_k,
            params.audio_temperature,
            params.audio_top_k,
        )
        engine.begin(params.seed, sampling)
        self._times = StepTimes()
        sock = socket.socket(fileno=request.fds.pop())
        self._talk = TalkSession(
            params.session, params.epoch, sock, engine, self._times, self._notify
        )
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
        ended = talk.serve_one()
        if talk.frames > before and talk.frames % STATS_EVERY_FRAMES == 0:
            self._notify("stats", self._stats())
        if ended is not None:
            self._end_talk(ended)

    def _end_talk(self, reason: EndReason) -> None:
        if (talk := self._talk) is None:
            return
        self._talk = None
        self._last_ended = (talk.session, talk.frames)
        talk.close()
        self._notify("stats", self._stats())
        self._notify("talk_ended", messages.TalkEnded(talk.session, talk.frames, reason))
        log.info("talk ended", extra={"session": talk.session, "reason": reason})

    def _stats(self) -> messages.Stats:
        engine = self._engine
        return messages.Stats(
            step_ms=self._times.percentiles(),
            frames=self._talk.frames if self._talk else 0,
            memory_bytes=engine.memory_bytes() if engine else 0,
            last_step_age_s=self._times.last_age_s(),
        )

    def _bench(self, request: Request) -> dict[str, Any]:
        params = parse(request.params, messages.BenchParams)
        engine = self._need_engine()
        if self._talk is not None:
            raise TalkBusy(f"the model is in talk {self._talk.session}")
        rng = random.Random(0)
        engine.begin(0, Sampling())
        times = StepTimes(params.steps)
        for done in range(params.steps):
            if self._control.has_requests:
                raise ModelError(
                    f"the benchmark gave way after {done} of {params.steps} steps",
                    hint="The model was wanted for something else; repeat the call.",
                )
            heard = [rng.randrange(engine.card) for _ in range(engine.facts.codebooks_user)]
            with times.measure():
                engine.step(heard)
        engine.begin(0, Sampling())
        step_ms = times.bench()
        return plain(
            messages.BenchResult(
                steps=params.steps,
                step_ms=step_ms,
                budget_ms=FRAME_BUDGET_MS,
                realtime=step_ms.p99 <= FRAME_BUDGET_MS,
                memory_bytes=engine.memory_bytes(),
            )
        )

    def _shutdown(self, _request: Request) -> dict[str, Any]:
        self._end_talk("stopped")
        self._done = True
        return {}

    def _need_engine(self) -> mlx_engine.MlxEngine:
        if self._engine is None:
            raise ModelNotLoaded("this worker has no model yet")
        return self._engine

    def _notify(self, event: str, data: msgspec.Struct) -> None:
        self._control.notify(event, plain(data))


def main() -> None:
    """Connect to the daemon and serve it."""
    control = worker_base.connect()
    control.start()
    ModelWorker(control).run()


if __name__ == "__main__":
    main()
