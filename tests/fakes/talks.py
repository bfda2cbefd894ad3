"""Talks on files with the demo model, through a real daemon."""

from __future__ import annotations

from typing import Any

import pytest

from moshi_client.errors import RemoteError
from moshi_client.wire import Connection
from moshid.demo.home import World
from moshid.demo.watch import Watch

LIMIT_S = 100.0
TALK = ["talk", "talk.text", "talk.level"]


def talk(connection: Connection, **params: Any) -> dict[str, Any]:
    """``talk.start`` with the demo model."""
    return connection.call("talk.start", {"model": "demo", "seed": 1, **params})


def stopped(topic: str, data: dict[str, Any]) -> bool:
    """The event that says that a talk is over."""
    return topic == "talk" and data.get("state") in ("stopped", "failed")


def talk_to_its_end(world: World, **params: Any) -> dict[str, Any]:
    """A whole talk on files; its final status."""
    with world.connect() as owner, Watch(world, TALK) as watch:
        talk(owner, **params)
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        status: dict[str, Any] = watch.data("talk")[-1]["status"]
        return status


def kind_of(world: World, method: str, **params: Any) -> str:
    """The kind of the error that a call ends with."""
    with pytest.raises(RemoteError) as caught:
        world.call(method, params)
    assert caught.value.hint
    return caught.value.kind
