"""The model's part in a talk: who has it, whom to tell what, and how the talk gets over a restart.

Owns no process and no socket; the service sends, this listens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moshid.errors import ModelError, ModelWorkerDied, MoshidError

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

    def __init__(self) -> None:
        self.talk: Borrower | None = None

    def take_back(self, session: str) -> None:
        """The talk is over."""
        if self.talk is not None and self.talk.session == session:
            self.talk = None

    def tell(self, event: str, data: dict[str, Any], error: MoshidError | None) -> None:
        """Pass on what the worker says, or what becomes of it."""
        if (talk := self.talk) is None:
            return
        gone = error or ModelWorkerDied("the model's process ended")
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
                self.talk = None
                talk.on_failed(gone)

    def _ended(self, talk: Borrower, reason: str) -> None:
        """The worker serves the talk's frames no more; that is a fault unless the peer ended it."""
        self.talk = None
        if reason not in ORDERLY:
            talk.on_failed(ModelError(f"the model left the talk: {reason}", reason=reason))
