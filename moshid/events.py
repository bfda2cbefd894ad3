"""The event bus: services publish, subscribers take, nobody waits. Owns order and overflow.

A subscription is a bounded queue. When it is full, the oldest *state update* of the same key goes
first, then the oldest state update of any key, then the oldest event; the count of what was lost is
handed out before the next event. Single-threaded: publish from the event loop only.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

Topic = Literal["download", "model", "talk", "talk.text", "talk.level", "daemon", "log"]
TOPICS: Final[tuple[str, ...]] = get_args(Topic)

QUEUE_EVENTS_MAX: Final = 512
"""Events a subscriber may lag behind before the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``key`` marks a state update: a newer one of the same key supersedes it."""

    topic: str
    data: dict[str, Any]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a subscriber gets: the event, its number in this subscription, what was lost before."""

    event: Event
    seq: int
    dropped: int


class Subscription:
    """A bounded queue of events. Iterate with ``take``; ``close`` ends it."""

    def __init__(self, topics: frozenset[str], on_close: Callable[[Subscription], None]) -> None:
        self.topics = topics
        self._on_close = on_close
        self._queue: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._numbers = itertools.count(1)
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, event: Event) -> None:
        """Queue an event; never blocks, drops the least valuable one when full."""
        if len(self._queue) >= QUEUE_EVENTS_MAX:
            self._drop_one(event.key)
        self._queue.append(event)
        self._ready.set()

    async def take(self) -> Taken:
        """The next event, waiting for one."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        dropped, self._dropped = self._dropped, 0
        return Taken(self._queue.popleft(), next(self._numbers), dropped)

    def close(self) -> None:
        """Stop receiving. Safe to call twice."""
        self._on_close(self)

    def _drop_one(self, key: str | None) -> None:
        same = (i for i, e in enumerate(self._queue) if key is not None and e.key == key)
        state = (i for i, e in enumerate(self._queue) if e.key is not None)
        del self._queue[next(same, next(state, 0))]
        self._dropped += 1


class Bus:
    """Fans events out to subscriptions and answers what the state is right now."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._snapshots: dict[str, Callable[[], dict[str, Any]]] = {}

    def publish(self, topic: Topic, data: dict[str, Any], *, key: str | None = None) -> None:
        """Hand an event to every subscription of ``topic``. ``key`` marks a state update."""
        event = Event(topic, data, key)
        for subscription in tuple(self._subscriptions):
            if topic in subscription.topics:
                subscription.offer(event)

    def provide_snapshot(self, topic: Topic, provider: Callable[[], dict[str, Any]]) -> None:
        """Name the function that answers the topic's present state (a JSON object)."""
        self._snapshots[topic] = provider

    def snapshot(self, topics: Iterable[str]) -> dict[str, Any]:
        """The present state of each topic that has one, by topic."""
        return {t: self._snapshots[t]() for t in topics if t in self._snapshots}

    def subscribe(self, topics: Iterable[str]) -> Subscription:
        """A new subscription to ``topics``; numbers start at 1."""
        subscription = Subscription(frozenset(topics), self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription
