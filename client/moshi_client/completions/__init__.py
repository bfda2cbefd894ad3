"""Shell completions: what can stand at the end of a command line. Owns which word means what.

The scripts (``moshi-client.bash``, ``.zsh``, ``.fish``) only hand the words over to ``moshi-client
help --complete=WORDS``, so nothing in them can grow stale: commands, flags and choices are read
from the parser itself; models, jobs, devices and methods are asked of the daemon, if it runs.
"""

from __future__ import annotations

import argparse
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Candidate = tuple[str, str]
    Lookup = Callable[[str], list[Candidate]]

SHELLS = ("bash", "zsh", "fish")

FILES, FOLDERS, WORDS = "files", "dirs", "words"
"""The kinds of an answer: the first two the shell completes by itself."""

_KINDS = {
    "MODEL": "models",
    "M": "models",
    "MODEL|REPO|URL": "models",
    "JOB": "jobs",
    "METHOD": "methods",
    "COMMAND|METHOD": "topics",
    "TOPIC": "events",
    "FILE": FILES,
    "PATH": FILES,
    "DIR": FOLDERS,
}
"""What a placeholder in a usage line stands for."""


def script(shell: str) -> str:
    """The script for that shell."""
    path = os.path.join(os.path.dirname(__file__), f"moshi-client.{shell}")
    with open(path, encoding="utf-8") as file:
        return file.read()


class Words:
    """A command line up to the word that is completed: whose parser, what it waits for."""

    def __init__(
        self,
        root: argparse.ArgumentParser,
        commands: Mapping[str, argparse.ArgumentParser],
        words: Sequence[str],
    ) -> None:
        *before, self.current = _joined(words)
        self.parser, self.command = root, ""
        self.given: list[str] = []
        self.values: dict[str, str] = {}
        """Values of flags, by their name in the namespace."""
        self.waiting: argparse.Action | None = None
        self._commands = commands
        self._places = 0
        for word in before:
            self._take(word)

    @property
    def place(self) -> argparse.Action | None:
        """The positional argument that comes next; none in front of the command."""
        places = [a for a in self.parser._actions if not a.option_strings]
        if not self.command or not places:
            return None
        last = places[-1]
        if self._places < len(places):
            return places[self._places]
        return last if last.nargs in ("*", "+", argparse.REMAINDER) else None

    def _take(self, word: str) -> None:
        if self.waiting is not None:
            self.values[self.waiting.dest] = word
            self.waiting = None
            return
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            action = self.parser._option_string_actions.get(name)
            if action is None:
                return
            self.given += action.option_strings
            if equals:
                self.values[action.dest] = value
            elif action.nargs != 0:
                self.waiting = action
        elif self.command:
            self._places += 1
        elif word in self._commands:
            self.parser, self.command = self._commands[word], word


def complete(
    root: argparse.ArgumentParser, words: Words, lookup: Lookup
) -> tuple[str, list[Candidate]]:
    """The kind of what can stand there, and the candidates, each with a few words about it.

    ``lookup`` gives the candidates of a kind: ``models``, ``jobs``, ``input``, ``output``,
    ``methods``, ``events``.
    """
    prefix, current = "", words.current
    action = words.waiting
    if action is None and current.startswith("-") and "=" in current:
        name, _, current = current.partition("=")
        action, prefix = words.parser._option_string_actions.get(name), f"{name}="
    if action is not None:
        kind, found = _values(root, action, lookup)
    elif current.startswith("-"):
        kind, found = WORDS, _flags(words)
    elif not words.command:
        kind, found = WORDS, _summaries(root)
    elif (place := words.place) is not None:
        kind, found = _values(root, place, lookup)
    else:
        kind, found = WORDS, _flags(words)
    wanted = current.replace("\\", "").strip("'\"")
    return kind, [(prefix + word, told) for word, told in found if word.startswith(wanted)]


def _values(
    root: argparse.ArgumentParser, action: argparse.Action, lookup: Lookup
) -> tuple[str, list[Candidate]]:
    if action.choices is not None:
        return WORDS, [(str(choice), "") for choice in action.choices]
    meant = action.dest if action.metavar == "DEV" else _KINDS.get(str(action.metavar), "")
    if action.dest == "home":
        meant = FOLDERS
    if meant in (FILES, FOLDERS):
        return meant, []
    if meant == "topics":
        return WORDS, _summaries(root)
    return WORDS, lookup(meant) if meant else []


def _flags(words: Words) -> list[Candidate]:
    """The long flags that are not given yet, or may be given again."""
    found = []
    for action in words.parser._actions:
        name = max(action.option_strings, key=len, default="")
        again = isinstance(action, argparse._AppendAction)
        if name and action.help != argparse.SUPPRESS and (again or name not in words.given):
            found.append((name, action.help or ""))
    return found


def _summaries(root: argparse.ArgumentParser) -> list[Candidate]:
    """The commands with their summaries, in the order of the help."""
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            return [(str(a.dest), a.help or "") for a in action._choices_actions]
    return []


def _joined(words: Sequence[str]) -> list[str]:
    """bash takes ``--flag=value`` apart at the ``=``; here the flag is followed by its value."""
    plain = [word for at, word in enumerate(words) if word != "=" or not _is_flag(words, at - 1)]
    if words and words[-1] == "=" and _is_flag(words, len(words) - 2):
        plain.append("")
    return plain or [""]


def _is_flag(words: Sequence[str], at: int) -> bool:
    return at >= 0 and words[at].startswith("--")
