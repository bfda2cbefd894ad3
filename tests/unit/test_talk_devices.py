"""A talk whose devices go away and come back, alone and together with its model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from moshid.errors import DeviceFailed, ModelWorkerDied
from moshid.events import Bus, Subscription
from moshid.talk.request import TalkRequest
from moshid.talk.service import TalkService
from tests.fakes.talk_parts import FakeParts, talking, until

pytestmark = pytest.mark.asyncio
REQUEST = TalkRequest(seed=7)
AGAIN = {"devices": {"input": "mic", "output": "headset"}}


@pytest.fixture
def parts() -> FakeParts:
    return FakeParts()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest_asyncio.fixture
async def talks(tmp_path: Path, parts: FakeParts, bus: Bus) -> AsyncIterator[TalkService]:
    async with talking(tmp_path, parts, bus) as service:
        yield service


async def test_the_talk_recovers_without_its_model_learning_of_it(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.on_event("away", {})
    assert (await until(events, "recovering"))["status"]["devices"]["output"] == "spk"
    parts.on_event("back", AGAIN)
    status = (await until(events, "listening"))["status"]
    assert status["devices"] == AGAIN["devices"]
    assert parts.epochs == [1], "no new epoch: its context is kept"
    assert (await talks.stop())["state"] == "stopped"


async def test_what_happens_to_a_device_is_an_event(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    session = (await talks.start(REQUEST, "me"))["session"]["session"]
    events = bus.subscribe(["talk"])
    told = {"direction": "output", "change": "lost", "device": "spk"}
    parts.on_event("device", told)
    assert await news(events) == {"session": session, "event": "device", **told}


async def news(events: Subscription) -> dict[str, Any]:
    """The next talk event that is no state."""
    while True:
        data = (await events.take()).event.data
        if "event" in data:
            return data


@pytest.mark.parametrize("first", ["model", "devices"])
async def test_it_listens_again_when_both_are_back(
    talks: TalkService, parts: FakeParts, bus: Bus, first: str
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.hooks["on_gone"](ModelWorkerDied("killed"))
    parts.on_event("away", {})
    await until(events, "recovering")
    if first == "model":
        parts.hooks["on_restarted"]()
        while parts.epochs[-1] != -2:
            await events.take()  # the last one tells that the model is back
        assert talks.status()["state"] == "recovering"
        parts.on_event("back", AGAIN)
    else:
        parts.on_event("back", AGAIN)
        await until(events, "recovering")
        parts.hooks["on_restarted"]()
    await until(events, "listening")
    assert parts.epochs == [1, 2, -2]
    await talks.stop()


async def test_a_device_that_cannot_be_waited_for_ends_the_talk(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.on_event("failed", {"error": DeviceFailed("gone")})
    status = (await until(events, "failed"))["status"]
    assert status["error"]["kind"] == "audio.device_failed"
