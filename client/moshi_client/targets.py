"""What a command is about: a catalogue name, a Hub repository, or a job. Owns how they are told
apart."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    Json = dict[str, Any]

QUALITIES = ("auto", "bf16", "q8", "q4")
PROFILES = ("auto", "verified", "robust", "parallel", "turbo")

SEEDS = 2**31
"""A seed is below."""


def model_or_repo(name: str | None) -> Json:
    """The parameter that names it: a repository has a slash, a catalogue name has none."""
    if name is None:
        return {}
    return {"repo": name} if "/" in name else {"model": name}


def given(args: argparse.Namespace, *names: str) -> Json:
    """The arguments among ``names`` that were given, by name: the daemon knows the defaults."""
    values = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def number(text: str) -> float:
    """The number that a flag was given; the type of such flags.

    Raises:
        ArgumentTypeError: it is none, or one that is not finite, which JSON cannot carry.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return value


def seconds(text: str) -> float:
    """As ``number``, of a length of time above 0."""
    value = number(text)
    if value <= 0:
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def seed(text: str) -> int:
    """The seed that a flag was given; the type of that flag.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) >= SEEDS:
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {SEEDS - 1}")
    return int(text)


def add_keep_alive(parser: argparse.ArgumentParser) -> None:
    """The --keep-alive flag; the daemon knows what a duration is."""
    parser.add_argument(
        "--keep-alive",
        metavar="TIME",
        help="how long the model stays after its last use: 10m, 1h30m, seconds, forever; 0: until "
        "the next use is over",
    )


def add_quality(
    parser: argparse.ArgumentParser, text: str = "weights' precision (default: auto)"
) -> None:
    """The --quality flag."""
    parser.add_argument("--quality", choices=QUALITIES, help=text)
