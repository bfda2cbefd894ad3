"""The model's part in a talk: who has it, whom to tell what, and how the talk gets over a restart.

Owns the model's going to a talk and its coming back; the worker's life is ``residency``'s.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moshid.errors import ModelError, ModelWorkerDied, MoshidError, NoTalk, TalkBusy, WorkerDied
from moshid.model.asking import ask, ready_worker
from moshid.model.messages import TalkParams, parse, plain
from moshid.model.residency import Residency
from moshid.model.states import State
from moshid.model.tending import Tending

log = logging.getLogger(__name__)

ORDERLY = ("end", "eof", "stopped")
"""Reasons for which a talk's frames end without a fault."""


@dataclass(slots=True)
class Borrower:
    """A talk that has the model, and whom to tell. See ``ModelService.begin_talk``."""

    session: str
    on_text: Callable[[dict[str, Any]], None]
    """``{session, frame, token, piece}``: the model said something."""
    on_gone: Callable[[MoshidError], None]
    """Its process ended, or was sick, and is being started again."""
    on_restarted: Callable[[], None]
    """It is ready again."""
    on_failed: Callable[[MoshidError], None]
    """It will not come back, or has left the talk."""
    interrupted: bool = False


class Lending:
    """At most one talk has the model."""

    def __init__(self, residency: Residency, tending: Tending, *, patience_s: float) -> None:
        """``patience_s`` is how long ``take_back`` waits for the worker."""
        self._residency = residency
        self._tending = tending
        self._patience_s = patience_s
        self._talk: Borrower | None = None
        self._starting: str | None = None
        """The talk that has the model loaded for it, from then to its end."""

    def refuse_in_talk(self, what: str, session: str | None = None) -> None:
        """Refuse what would end a talk, or the start of one, that is not ``session``.

        Raises:
            TalkBusy: there is such a talk.
        """
        owner = self._starting if (talk := self._talk) is None else talk.session
        if owner not in (None, session):
            raise TalkBusy(f"cannot {what} during talk {owner}")

    def promise(self, session: str) -> None:
        """The model is being loaded for a talk, and held for it until ``take_back``.

        Raises:
            TalkBusy: another talk has it, or is to have it.
        """
        self.refuse_in_talk("load a model for another", session)
        self._starting = session
        self._tending.use(session)

    async def lend(
        self, to: Borrower, epoch: int, sock: socket.socket, sampling: dict[str, Any]
    ) -> None:
        """Have the worker serve a talk, ``sampling`` being TalkParams; it gets a copy of ``sock``.

        Raises:
            InvalidParams, ModelNotLoaded, TalkBusy, ModelError: see ``ModelService.begin_talk``.
        """
        before = self._talk
        if before is not None and before.session != to.session:
            raise TalkBusy(f"the model is in talk {before.session}")
        worker = ready_worker(self._residency)
        request = plain(parse(sampling, TalkParams)) | {"session": to.session, "epoch": epoch}
        self._talk = to
        self._tending.use(to.session)
        try:
            await ask(self._residency, worker, "talk", request, fds=[sock.fileno()])
        except BaseException:
            self._talk = before
            raise
        if self._residency.state is State.READY:
            self._residency.set_state(State.BUSY)

    async def take_back(self, session: str) -> None:
        """The talk is over, or never began. A worker too busy to answer in time does so later."""
        if self._talk is not None and self._talk.session == session:
            self._talk = None
        if self._starting == session:
            self._starting = None
        worker, slow = self._residency.worker, False
        try:
            if worker is not None and self._residency.state in (State.READY, State.BUSY):
                params = {"session": session}
                await worker.call("talk_stop", params, timeout_s=self._patience_s)
        except NoTalk as e:
            log.debug("talk %s is over for the model: %s", session, e)
        except WorkerDied as e:
            log.warning("the model is not given back yet: %s", e)
            slow = True
        finally:
            self._back_to_ready()
            self._tending.used(session, watch=slow)

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Pass on what the worker says, or what becomes of it."""
        if self._talk is not None:
            self._pass_on(self._talk, event, data)
        self._back_to_ready()

    def _pass_on(self, talk: Borrower, event: str, data: dict[str, Any]) -> None:
        gone = self._residency.error or ModelWorkerDied("the model's process ended")
        match event:
            case "text" if data["session"] == talk.session:
                talk.on_text(data)
            case "talk_ended" if data["session"] == talk.session and data["reason"] != "replaced":
                self._ended(talk, data["reason"])
            case "worker_died" if not talk.interrupted:
                talk.interrupted = True
                talk.on_gone(gone)
            case "ready" if talk.interrupted:
                talk.on_restarted()
            case "failed":
                self._talk = None
                talk.on_failed(gone)

    def _ended(self, talk: Borrower, reason: str) -> None:
        """The worker serves the talk's frames no more; that is a fault unless the peer ended it."""
        self._talk = None
        if reason not in ORDERLY:
            talk.on_failed(ModelError(f"the model left the talk: {reason}", reason=reason))

    def _back_to_ready(self) -> None:
        if self._talk is None and self._residency.state is State.BUSY:
            self._residency.set_state(State.READY)
