"""``call``'s key=value parameters."""

from __future__ import annotations

from moshi_client.commands.call import parse_params


def test_an_id_that_reads_as_too_large_a_number_is_text() -> None:
    assert parse_params(["id=1234e567", "b=12e3", "c=1e9x"]) == {
        "id": "1234e567",
        "b": 12_000.0,
        "c": "1e9x",
    }
