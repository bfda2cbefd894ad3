"""``call``'s key=value parameters."""

from __future__ import annotations

import pytest

from moshi_client import request
from moshi_client.commands.call import parse_params
from moshi_client.errors import UsageError


def test_an_id_that_reads_as_too_large_a_number_is_text() -> None:
    assert parse_params(["id=1234e567", "b=12e3", "c=1e9x"]) == {
        "id": "1234e567",
        "b": 12_000.0,
        "c": "1e9x",
    }


@pytest.mark.parametrize("text", ["\ufeff{}", " {} \r\n", "\r\n{\r\n}\r\n"], ids=ascii)
def test_an_object_out_of_any_editor_is_one(text: str) -> None:
    assert parse_params([text]) == {}


@pytest.mark.parametrize("depth", [500, 900, 960, 990, 100_000])
def test_what_is_nested_too_deeply_is_said_so(depth: int) -> None:
    inner = "[" * depth + "]" * depth
    with pytest.raises(UsageError, match=r"^(a:|the parameters are) nested too deeply$"):
        request.check(parse_params([f'{{"a": {inner}}}']))


def test_a_value_that_is_nested_too_deeply_to_be_read_is_a_text() -> None:
    assert parse_params(["a=" + "[" * 100_000]) == {"a": "[" * 100_000}


def test_a_number_of_too_many_digits_is_said_so() -> None:
    with pytest.raises(UsageError, match="a number of too many digits"):
        parse_params(['{"a": ' + "9" * 5000 + "}"])
