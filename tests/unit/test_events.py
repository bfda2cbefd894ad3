"""The bus: order, numbers, snapshots, and what is lost first."""

from __future__ import annotations

import asyncio

import pytest

from moshid.events import QUEUE_EVENTS_MAX, Bus, Subscription

pytestmark = pytest.mark.asyncio


async def drain(subscription: Subscription) -> list[tuple[int, int, object]]:
    """``(seq, dropped, n)`` of all queued events."""
    found = []
    while len(subscription):
        taken = await subscription.take()
        found.append((taken.seq, taken.dropped, taken.event.data["n"]))
    return found


async def test_each_subscription_counts_for_itself_and_hears_its_topics_only() -> None:
    bus = Bus()
    first = bus.subscribe(["model"])
    bus.publish("model", {"n": 1})
    second = bus.subscribe(["model", "talk"])
    bus.publish("talk", {"n": 2})
    bus.publish("model", {"n": 3})
    assert await drain(first) == [(1, 0, 1), (2, 0, 3)]
    assert await drain(second) == [(1, 0, 2), (2, 0, 3)]


async def test_take_waits_for_an_event_and_close_ends_the_flow() -> None:
    bus = Bus()
    subscription = bus.subscribe(["model"])
    waiting = asyncio.create_task(subscription.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    bus.publish("model", {"n": 1})
    assert (await waiting).event.data == {"n": 1}
    subscription.close()
    subscription.close()
    bus.publish("model", {"n": 2})
    assert len(subscription) == 0


async def test_a_full_queue_loses_old_state_of_the_same_key_first() -> None:
    bus = Bus()
    subscription = bus.subscribe(["model", "download", "talk.text"])
    bus.publish("talk.text", {"n": -1})
    bus.publish("download", {"n": -2}, key="download:1")
    for n in range(QUEUE_EVENTS_MAX - 2):
        bus.publish("model", {"n": n}, key="model")
    bus.publish("model", {"n": 1000}, key="model")
    bus.publish("talk.text", {"n": 2000})
    kept = [n for _seq, _dropped, n in await drain(subscription)]
    assert len(kept) == QUEUE_EVENTS_MAX
    assert kept[0] == -1, "what is no state update stays"
    assert -2 not in kept, "an event without a key pushes out the oldest state of any key"
    assert kept[1] == 1, "state 0 went for state 1000"
    assert kept[-2:] == [1000, 2000]


async def test_without_any_state_the_oldest_event_goes() -> None:
    bus = Bus()
    subscription = bus.subscribe(["talk.text"])
    for n in range(QUEUE_EVENTS_MAX + 3):
        bus.publish("talk.text", {"n": n})
    events = await drain(subscription)
    assert events[0] == (1, 3, 3), "three were lost before the first one handed out"
    assert events[1] == (2, 0, 4)


async def test_snapshots_are_asked_for_when_wanted() -> None:
    bus = Bus()
    state = {"state": "unloaded"}
    bus.provide_snapshot("model", lambda: dict(state))
    state["state"] = "ready"
    assert bus.snapshot(["model", "log"]) == {"model": {"state": "ready"}}
