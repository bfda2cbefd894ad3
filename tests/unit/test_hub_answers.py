"""What a Hub's refusal becomes for the user."""

from __future__ import annotations

import requests

from moshid.downloads.hub import SAID_MAX, translate


def test_what_a_hub_says_is_shown_without_what_would_move_a_terminals_cursor() -> None:
    response = requests.Response()
    response.status_code = 451
    response.headers["X-Error-Message"] = "\x1b[2Jnot \x07here" + "!" * 1000
    told = translate(requests.HTTPError(response=response), "org/name")
    assert "[2Jnot here!" in told.message
    assert told.message.isprintable()
    assert len(told.message) < SAID_MAX + 100
