"""What a caller sent is quoted in an error, but not whole if it is a line's length."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from moshid.errors import InvalidParams, MoshidError
from moshid.errors.base import MESSAGE_CHARS_MAX
from moshid.rpc.caller import Caller
from moshid.rpc.dispatch import Dispatcher
from tests.fakes.small_rpc import METHODS, SmallApp

LONG = "x" * 100_000


def test_the_middle_of_a_long_message_is_left_out() -> None:
    error = MoshidError(f"keep_alive: '{LONG}' is no length of time")
    assert error.message.startswith("keep_alive: 'xxx")
    assert error.message.endswith("xxx' is no length of time")
    assert " more]x" in error.message
    assert len(error.message) < MESSAGE_CHARS_MAX + 30
    assert str(error) == error.message


@pytest.mark.parametrize("length", [0, MESSAGE_CHARS_MAX])
def test_others_stay_as_they_are(length: int) -> None:
    assert InvalidParams("x" * length).message == "x" * length


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "request_", [{"method": LONG}, {"method": "add", "params": {LONG: 1}}], ids=["method", "name"]
)
async def test_no_reply_says_all_that_was_sent(request_: dict[str, Any]) -> None:
    caller = cast(Caller, None)  # these handlers ask it for nothing
    request = {"jsonrpc": "2.0", "id": 1, **request_}
    reply = await Dispatcher(METHODS, SmallApp()).serve(request, caller)
    assert reply is not None
    assert len(json.dumps(reply)) < 2 * MESSAGE_CHARS_MAX
