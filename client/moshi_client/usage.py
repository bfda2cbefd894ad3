"""Words about a wrong parameter, said of the flag that it was given by. Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from moshi_client.errors import RemoteError, Unsendable

_AT = re.compile(r"^[a-z.]+: (?P<what>.+) - at `\$\.(?P<name>\w+)\S*`$")


def speak_of_flags(error: RemoteError, parser: argparse.ArgumentParser) -> None:
    """Have ``error`` name ``parser``'s flags in place of parameters, and point to its help.

    Of a command that hands parameters on as they are (``call``), nothing is changed.
    """
    if _hands_on(parser):
        return
    message = error.message
    if found := _AT.match(message):
        what = found["what"].replace("`", "")
        message = f"{found['name']}: {what[0].lower()}{what[1:]}"
    for action in parser._actions:
        shown = action.option_strings[-1] if action.option_strings else action.metavar
        if shown and action.dest != "target":
            message = re.sub(rf"\b{action.dest}\b", str(shown), message)
            if action.option_strings and message.startswith(f"{str(shown).lstrip('-')}:"):
                message = f"--{message}"  # a parameter whose name is a word of Python's, as from
    error.message = message
    error.hint = f"See {parser.prog} --help."


def name_the_flag(error: Unsendable, parser: argparse.ArgumentParser) -> None:
    """Have ``error`` name ``parser``'s flag in place of the parameter, where there is one."""
    if _hands_on(parser):
        return
    name = error.name.partition("[")[0]
    for action in parser._actions:
        shown = str(action.option_strings[-1] if action.option_strings else action.metavar)
        if name in (action.dest, shown.lstrip("-")):
            error.message = f"{shown}: {error.what}"


def _hands_on(parser: argparse.ArgumentParser) -> bool:
    """Whether it is of a command that takes parameters as they are."""
    return any(action.dest == "params" for action in parser._actions)
