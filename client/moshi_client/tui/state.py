"""What the terminal UI knows, in one immutable value; what may happen to it; what it may ask for.

Everything the daemon said is kept as it came (dicts, see docs/rpc.md), bounded. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moshi_client.tui.hold import Hold

Json = dict[str, Any]

TRANSCRIPT_MAX = 400
"""Paragraphs that are kept."""

PARAGRAPH_CHARS_MAX = 2000
LOG_MAX = 200
ACTIVE_TALK = ("starting", "listening", "recovering", "stopping")
FINISHED_JOBS = ("done", "cancelled")

TOPICS = ("daemon", "model", "download", "talk", "talk.text", "talk.level", "log")


@dataclass(frozen=True)
class Paragraph:
    """What Moshi said without a longer pause; the times are seconds since the talk's start."""

    text: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True)
class Note:
    """The last thing that the user should know, until the next key."""

    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Call:
    """Effect: call a method. ``tag`` names it in the answer; one of a tag at a time."""

    tag: str
    method: str
    params: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Cancel:
    """Effect: take back the call of this tag."""

    tag: str


@dataclass(frozen=True)
class Quit:
    """Effect: end, with this exit code."""

    code: int = 0


@dataclass(frozen=True)
class Redraw:
    """Effect: paint the whole screen again."""


Effect = Call | Cancel | Quit | Redraw


@dataclass(frozen=True)
class Question:
    """Something to agree to first: ``y`` has the ``effects``."""

    text: str
    effects: tuple[Effect, ...]
    is_quit: bool = False


@dataclass(frozen=True)
class State:
    """All of it."""

    talk_params: Json = field(default_factory=dict)
    """What ``t`` starts."""

    connected: bool = True
    hangs: bool = False
    """It has not answered for too long."""

    daemon: Json = field(default_factory=dict)
    """daemon.hello, and what daemon.status adds."""

    stopping: bool = False
    model: Json = field(default_factory=dict)
    limits: Json = field(default_factory=dict)
    jobs: tuple[Json, ...] = ()
    talk: Json = field(default_factory=dict)
    levels: Json = field(default_factory=dict)
    transcript: tuple[Paragraph, ...] = ()
    log: tuple[Json, ...] = ()
    events_lost: int = 0

    own_session: str | None = None
    """The talk that this connection started."""

    wanted: Json = field(default_factory=dict)
    """Controls that are yet to be sent, once the call before is answered."""

    pending: frozenset[str] = frozenset()
    """Tags of the calls that wait for an answer."""

    hold: Hold = field(default_factory=Hold)
    selected: str | None = None
    """The chosen download's id."""

    scrolled: int = 0
    """Lines that the transcript is scrolled back by."""

    note: Note | None = None
    question: Question | None = None
    help: bool = False

    @property
    def talk_state(self) -> str:
        """``idle``, or the state of the talk there is, or was last."""
        return str(self.talk.get("state") or "idle")

    @property
    def talks(self) -> bool:
        """Whether a talk is going on, or on its way."""
        return self.talk_state in ACTIVE_TALK

    @property
    def starts(self) -> bool:
        """Whether we have asked for a talk that has not begun."""
        return "talk.start" in self.pending

    @property
    def owns_talk(self) -> bool:
        """Whether the talk that goes on ends with this connection."""
        return self.starts or (self.talks and self.talk.get("session") == self.own_session)

    @property
    def controls(self) -> Json:
        """The talk's controls: as asked for, else as told."""
        return {**(self.talk.get("controls") or {}), **self.wanted}

    @property
    def listed_jobs(self) -> tuple[Json, ...]:
        """The jobs as they are listed: what goes on first, what is finished last."""
        return tuple(sorted(self.jobs, key=lambda job: job.get("state") in FINISHED_JOBS))

    @property
    def selected_job(self) -> Json | None:
        """The chosen download; the first one, if none is chosen or it has gone."""
        jobs = self.listed_jobs
        return next(
            (job for job in jobs if job.get("id") == self.selected), jobs[0] if jobs else None
        )
