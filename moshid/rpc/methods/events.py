"""``events.*``: subscribe and unsubscribe."""

from __future__ import annotations

from typing import Any, Protocol

from moshid.errors import InvalidParams
from moshid.events import Bus, Topic
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, Params


class HasBus(Protocol):
    """What these handlers need of the application."""

    @property
    def bus(self) -> Bus:
        """The event bus."""
        ...


class SubscribeParams(Params):
    """``topics``: which events to send."""

    topics: list[Topic]


class UnsubscribeParams(Params):
    """``subscription``: the number that events.subscribe gave."""

    subscription: int


async def subscribe(app: HasBus, caller: Caller, p: SubscribeParams) -> dict[str, Any]:
    """Send events of these topics to this connection, after a snapshot of the present state.

    Result: ``{subscription, snapshot: {topic: state}}``. Then come notifications ``event
    {subscription, seq, topic, data}``, ``seq`` counting from 1 without gaps; if the client is too
    slow, ``events.lagged {subscription, dropped, seq}`` tells how many were lost before ``seq``.
    """
    topics = list(dict.fromkeys(p.topics))
    number = caller.connection.open_subscription(app.bus.subscribe(topics))
    caller.after_reply.append(lambda: caller.connection.start_subscription(number))
    return {"subscription": number, "snapshot": app.bus.snapshot(topics)}


async def unsubscribe(_app: HasBus, caller: Caller, p: UnsubscribeParams) -> dict[str, Any]:
    """End a subscription of this connection.

    Result: ``{}``.
    """
    if not caller.connection.close_subscription(p.subscription):
        raise InvalidParams(f"this connection has no subscription {p.subscription}")
    return {}


METHODS: list[Method[Any]] = [
    Method("events.subscribe", SubscribeParams, subscribe),
    Method("events.unsubscribe", UnsubscribeParams, unsubscribe),
]
