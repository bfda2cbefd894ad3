"""A request as a line of JSON. Owns what cannot be said in one: text that is not UTF-8, and numbers
that are none.

Python hands over arguments of any bytes, as lone surrogates, and writes NaN where JSON has no such
word; the daemon could only say of either that the line is no JSON.
"""

from __future__ import annotations

import json
import math

from moshi_client.errors import Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_HINT = "What is sent to the daemon has to be UTF-8."
_PATH_HINT = "Paths that are sent to the daemon have to be UTF-8: rename it, or name a link to it."

DEPTH_MAX = 100
"""Far more than any method takes, and far less than Python's recursion."""


def line(message: Json) -> bytes:
    """The bytes of a request or notification, with its line's end.

    Raises:
        Unsendable: a text is not UTF-8, or a number is none that JSON has.
    """
    try:
        text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except ValueError:  # UnicodeEncodeError is one
        check(message.get("params") or {})
        check(message)
        raise


def check(value: object, name: str = "", depth: int = 0) -> None:
    """Look through parameters for what cannot be sent; ``name``: that of ``value``.

    Raises:
        Unsendable: a text is not UTF-8, a number is none that JSON has, or lists and objects are
            within each other more than ``DEPTH_MAX`` times.
    """
    if depth > DEPTH_MAX:
        raise Unsendable(name.partition(".")[0].partition("[")[0], "nested too deeply")
    match value:
        case str() if escaped(value) != value:
            hint = _PATH_HINT if value.startswith("/") else _HINT
            raise Unsendable(name, f"'{escaped(value)}' is not UTF-8", hint)
        case float() if not math.isfinite(value):
            raise Unsendable(name, f"{value} is no number that can be sent")
        case dict():
            for key, inner in value.items():
                check(str(key), "the name of a parameter")
                check(inner, f"{name}.{key}" if name else str(key), depth + 1)
        case list():
            for index, inner in enumerate(value):
                check(inner, f"{name}[{index}]", depth + 1)


def escaped(text: str) -> str:
    """``text`` with what is not UTF-8 in it as ``\\xff``, the byte, or ``\\ud800``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode()
