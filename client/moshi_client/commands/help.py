"""``help``: about a command, or a method of the control protocol; and what completes a line."""

from __future__ import annotations

import argparse
import json

from moshi_client import render
from moshi_client.context import Context
from moshi_client.errors import EXIT_OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from moshi_client.cli import Commands

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add the command."""

    def run(ctx: Context, args: argparse.Namespace) -> int:
        return _help(ctx, args, commands)

    parser = commands.add("help", run, "about a command, or about a method (which has a dot)")
    parser.add_argument("topic", metavar="COMMAND|METHOD", nargs="?")
    parser.add_argument(
        "--completions",
        choices=("bash", "zsh", "fish"),
        help='print a completion script: eval "$(moshi-client help --completions bash)"',
    )
    parser.add_argument(
        "--complete",
        metavar="WORDS",
        help="what such a script asks: how the last of these words, with tabs between, can go on",
    )


def _help(ctx: Context, args: argparse.Namespace, commands: Commands) -> int:
    if args.completions is not None:
        return _script(ctx, args.completions)
    if args.complete is not None:
        return _complete(ctx, args.complete, commands)
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


def _script(ctx: Context, shell: str) -> int:
    from moshi_client import completions

    script = completions.script(shell)
    ctx.emit({"shell": shell, "script": script}, script.rstrip())
    return EXIT_OK


def _complete(ctx: Context, words: str, commands: Commands) -> int:
    from moshi_client import completions
    from moshi_client.completions import lookup

    line = completions.Words(commands.root, commands.parsers, words.split("\t"))
    place = argparse.Namespace(home=line.values.get("home"), socket=line.values.get("socket"))
    meant = Context(place, ctx.env, ctx.out, ctx.err)  # where that command would look
    kind, found = completions.complete(
        commands.root, line, lambda kind: lookup.candidates(meant, kind)
    )
    rows = ["\t".join(" ".join(part.split()) for part in row) for row in found]
    ctx.emit({"kind": kind, "words": [word for word, _ in found]}, "\n".join([kind, *rows]))
    return EXIT_OK


def _method_text(method: Json) -> str:
    told = [str(method.get(part) or "") for part in ("name", "summary", "description")]
    lines = [part.replace("``", "`") for part in told if part]
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
