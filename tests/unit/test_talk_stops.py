"""Stops that come at a bad moment: the talk closes once, whole, and leaves room for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from moshid.errors import InternalError, NoTalk
from moshid.events import Bus
from moshid.talk.request import SECONDS_MAX, TalkRequest
from moshid.talk.service import TalkService
from tests.fakes.talk_parts import FakeParts, talking, until

pytestmark = pytest.mark.asyncio

REQUEST = TalkRequest(seed=7)


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


async def test_a_stop_in_the_same_breath_as_the_start(talks: TalkService) -> None:
    """As in one batch: the stop is served before the talk's task has taken a step."""
    starting = asyncio.create_task(talks.start(REQUEST, "me"))
    stopping = asyncio.create_task(talks.stop())
    assert (await stopping)["state"] == "stopped"
    with pytest.raises(NoTalk):
        await starting
    assert (await talks.start(REQUEST, "me"))["session"]["state"] == "listening"


async def test_every_further_stop_waits_for_the_same_end(
    talks: TalkService, parts: FakeParts
) -> None:
    """The caller leaves, then others stop it too, while it is closing already."""
    parts.may_open.clear()
    parts.may_close.clear()
    starting = asyncio.create_task(talks.start(REQUEST, "me"))
    await parts.opening.wait()
    starting.cancel()
    await parts.closing.wait()
    stops = [asyncio.create_task(talks.stop()) for _ in range(2)]
    await asyncio.wait({starting})
    talks.owner_gone(talks.status()["session"])
    parts.may_close.set()
    assert [final["reason"] for final in await asyncio.gather(*stops)] == ["client_gone"] * 2
    assert parts.happened == ["stop_talk", "end_talk"]
    assert talks.status()["session"] is None


async def test_the_daemon_stops_while_a_failed_start_is_closing(
    tmp_path: Path, parts: FakeParts, bus: Bus
) -> None:
    parts.may_close.clear()
    parts.fail["load"] = InternalError("broken")
    async with talking(tmp_path, parts, bus) as service:
        parts.may_close.clear()
        starting = asyncio.create_task(service.start(REQUEST, "me"))
        await parts.closing.wait()
        asyncio.get_running_loop().call_soon(parts.may_close.set)
    with pytest.raises(InternalError):
        await starting
    assert parts.happened[-2:] == ["stop_talk", "end_talk"]


@pytest.mark.parametrize("part", ["stop_talk", "end_talk"])
async def test_a_part_that_cannot_be_stopped_is_told_and_the_talk_is_over(
    talks: TalkService, parts: FakeParts, part: str
) -> None:
    await talks.start(REQUEST, "me")
    parts.fail[part] = InternalError("it will not stop")
    final = await talks.stop()
    assert (final["state"], final["error"]["kind"]) == ("failed", InternalError.kind)
    assert parts.happened[-2:] == ["stop_talk", "end_talk"]
    parts.fail.clear()
    assert (await talks.start(REQUEST, "me"))["session"]["state"] == "listening"


async def test_the_sound_tells_first_that_the_model_left(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    """The model worker's END may come before its word on the reason: it is no orderly end."""
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.on_event("ended", {"reason": "model_gone", "stats": {"frames": 3}})
    assert (await until(events, "failed"))["status"]["error"]["kind"] == "model.error"


async def test_the_sound_ends_as_it_is_to_rejoin(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.fail["rejoin"] = NoTalk("there is no session to rejoin")
    parts.hooks["on_restarted"]()
    parts.on_event("ended", {"reason": "input_end", "stats": {"frames": 3}})
    final = (await until(events, "stopped"))["status"]
    assert (final["reason"], final["error"]) == ("input_end", None)


async def test_more_seconds_than_can_be_counted_are_refused() -> None:
    longest = msgspec.convert({"seconds": SECONDS_MAX}, TalkRequest)
    assert longest.seconds == SECONDS_MAX
    with pytest.raises(msgspec.ValidationError, match=r"\$\.seconds"):
        msgspec.convert({"seconds": 1e308}, TalkRequest)
