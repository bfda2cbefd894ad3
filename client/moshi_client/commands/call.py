"""``call`` and ``methods``: the control protocol by hand."""

from __future__ import annotations

import json

from moshi_client import render, request
from moshi_client.context import as_json
from moshi_client.errors import EXIT_OK, RemoteError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]


ID_CHARS = 8
"""Of a job's id: old ones may look like a number too large for one, as 1234e567 does."""

_BEFORE_JSON = "\ufeff \t\r\n"
"""White space, and what some editors begin a file in UTF-8 with."""


def register(commands: Commands) -> None:
    """Add both commands."""
    call = commands.add(
        "call",
        _call,
        "call a method of the control protocol",
        more="Parameters: one JSON object, or key=value, where a value that is JSON is taken as "
        "such (a number, for a parameter that is declared a string, as a string), and anything "
        "else as a string. Without --json the result is indented.",
    )
    call.add_argument("method", metavar="METHOD", help="see moshi-client methods")
    call.add_argument(
        "params", metavar="JSON|KEY=VALUE", nargs="*", default=[], help="its parameters"
    )
    commands.add("methods", _methods, "the methods of the control protocol")


def _call(ctx: Context, args: argparse.Namespace) -> int:
    params = parse_params(args.params)
    request.check(params)  # before any daemon is asked
    connection, _ = ctx.connect()
    with connection:
        params |= _meant_as_text(connection, args.method, params, args.params)
        result = connection.call(args.method, params)
    ctx.emit(result, as_json(result, ctx.out, indent=2))
    return EXIT_OK


def parse_params(words: list[str]) -> Json:
    """The parameters that ``words`` mean.

    Raises:
        UsageError: neither a JSON object nor key=value.
    """
    if len(words) == 1 and (whole := words[0].lstrip(_BEFORE_JSON)).startswith("{"):
        try:
            params: Json = json.loads(whole)
        except json.JSONDecodeError as e:
            raise UsageError(f"the parameters are no JSON: {e}") from e
        except ValueError as e:
            raise UsageError("the parameters hold a number of too many digits") from e
        except RecursionError as e:
            raise UsageError("the parameters are nested too deeply") from e
        return params
    pairs = [word.partition("=") for word in words]
    for key, equals, _ in pairs:
        if not equals or not key:
            raise UsageError(
                f"{key!r} is neither a JSON object nor key=value",
                "For example: moshi-client call download.start model=demo workers=4.",
            )
    return {key: _value(text) for key, _, text in pairs}


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    looks_like_an_id = len(text) == ID_CHARS and text.isalnum()
    return text if value == float("inf") and looks_like_an_id else value


def _meant_as_text(connection: Connection, method: str, params: Json, words: list[str]) -> Json:
    """What is written as a number, as a job's id of digits may be, where a string is declared."""
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    numbers = {k: v for k, v in pairs.items() if type(params.get(k)) in (int, float)}
    if not numbers:
        return {}
    try:
        methods = connection.call("rpc.discover").get("methods") or []
    except RemoteError:
        return {}  # the call itself will say what is wrong
    declared = [p for m in methods if m.get("name") == method for p in m.get("params") or []]
    texts = {p.get("name") for p in declared if _is_text(p.get("schema") or {})}
    return {name: text for name, text in numbers.items() if name in texts}


def _is_text(schema: Json) -> bool:
    kinds = {kind.get("type") for kind in schema.get("anyOf") or [schema]}
    return "string" in kinds and not kinds & {"integer", "number"}


def _methods(ctx: Context, _args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        document = connection.call("rpc.discover")
    rows = [
        (m.get("name"), str(m.get("summary", "")).replace("``", "`"))
        for m in document.get("methods") or []
    ]
    ctx.emit(document, render.table(("METHOD", "SUMMARY"), rows))
    ctx.say("parameters: moshi-client help METHOD")
    return EXIT_OK
