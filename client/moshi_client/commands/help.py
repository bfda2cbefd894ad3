"""``help``: about a command, or about a method of the control protocol."""

from __future__ import annotations

import json

from moshi_client import render
from moshi_client.errors import EXIT_OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add the command."""

    def run(ctx: Context, args: argparse.Namespace) -> int:
        return _help(ctx, args, commands)

    parser = commands.add("help", run, "about a command, or about a method (which has a dot)")
    parser.add_argument("topic", metavar="COMMAND|METHOD", nargs="?")


def _help(ctx: Context, args: argparse.Namespace, commands: Commands) -> int:
    topic = args.topic
    if topic is None or topic in commands.parsers:
        parser = commands.root if topic is None else commands.parsers[topic]
        text = parser.format_help()
        ctx.emit({"topic": topic, "help": text}, text.rstrip())
        return EXIT_OK
    if "." not in topic:
        raise UsageError(f"there is no command {topic!r}", "List them: moshi-client help.")
    connection, _ = ctx.connect()
    with connection:
        document = connection.call("rpc.discover")
    method = next((m for m in document.get("methods") or [] if m.get("name") == topic), None)
    if method is None:
        raise UsageError(f"there is no method {topic!r}", "List them: moshi-client methods.")
    ctx.emit(method, _method_text(method))
    return EXIT_OK


def _method_text(method: Json) -> str:
    lines = [str(method.get("name")), str(method.get("summary", ""))]
    if method.get("description"):
        lines.append(str(method["description"]))
    params = method.get("params") or []
    if params:
        rows = [
            (
                p.get("name"),
                _type_text(p.get("schema") or {}),
                "required" if p.get("required") else _default_text(p.get("schema") or {}),
                p.get("description", ""),
            )
            for p in params
        ]
        lines += ["", render.table(("PARAMETER", "TYPE", "DEFAULT", ""), rows)]
    if method.get("result"):
        result = json.dumps(method["result"].get("schema"), ensure_ascii=False)
        lines += ["", f"result: {result}"]
    return "\n".join(lines)


def _type_text(schema: Json) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_text(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    return str(schema.get("type") or schema.get("$ref", "any").rsplit("/", 1)[-1])


def _default_text(schema: Json) -> str:
    return json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""
