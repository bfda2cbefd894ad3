"""What can stand at the end of a command line."""

from __future__ import annotations

import pytest

from moshi_client import cli, completions

COMMANDS = cli.build_parser()
ASKED = {
    "models": [("demo", "on disk"), ("moshiko", "")],
    "jobs": [("kyutai/x", "downloading, 25 %")],
    "input": [("Built-in Microphone", "Core Audio")],
    "output": [("Built-in Output", "Core Audio")],
    "events": [("talk", ""), ("talk.text", "")],
    "methods": [("daemon.status", "Tell how it is.")],
}


def answer(line: str) -> tuple[str, list[str]]:
    """For a line whose words have single spaces between them; a space at the end: a new word."""
    words = completions.Words(COMMANDS.root, COMMANDS.parsers, line.split(" "))
    kind, found = completions.complete(COMMANDS.root, words, ASKED.__getitem__)
    return kind, [word for word, _ in found]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("do", ["download", "downloads", "doctor"]),
        ("--js", ["--json"]),
        ("talk --qual", ["--quality"]),
        ("talk --quality ", ["auto", "bf16", "q8", "q4"]),
        ("talk --quality q", ["q8", "q4"]),
        ("talk --quality=q", ["--quality=q8", "--quality=q4"]),
        ("talk --quality = q", ["q8", "q4"]),
        ("talk --quality =", ["auto", "bf16", "q8", "q4"]),
        ("talk --model ", ["demo", "moshiko"]),
        ("talk --input B", ["Built-in Microphone"]),
        ("talk --output 'B", ["Built-in Output"]),
        ("talk --model demo --fas", ["--fast"]),
        ("load d", ["demo"]),
        ("load --quality q4 mo", ["moshiko"]),
        ("models --delete d", ["demo"]),
        ("verify ", ["demo", "moshiko"]),
        ("download m", ["moshiko"]),
        ("pause ", ["kyutai/x"]),
        ("--home /h resume k", ["kyutai/x"]),
        ("downloads --priority h", ["high"]),
        ("events talk talk.", ["talk.text"]),
        ("call daem", ["daemon.status"]),
        ("call daemon.status ", []),
        ("help st", ["status", "stop"]),
        ("help --completions z", ["zsh"]),
        ("pause kyutai/x --j", ["--json"]),
        ("nonsense ", list(COMMANDS.parsers)),
        ("talk --seconds ", []),
        ("status --json --j", []),
        ("download demo --file a --fil", ["--file"]),
        ("status --nonsense ", ["--help", "--json", "--socket", "--home"]),
    ],
)
def test_a_line_can_go_on(line: str, wanted: list[str]) -> None:
    assert answer(line) == ("words", wanted)


@pytest.mark.parametrize(
    "line", ["talk --in ", "download --output x/", "bench --trace t", "talk --out=f"]
)
def test_files_are_left_to_the_shell(line: str) -> None:
    assert answer(line) == ("files", [])


@pytest.mark.parametrize("line", ["--home ", "status --home x", "talk --record "])
def test_so_are_folders(line: str) -> None:
    assert answer(line) == ("dirs", [])


def test_a_space_that_was_escaped_is_a_space() -> None:
    words = completions.Words(COMMANDS.root, COMMANDS.parsers, ["talk", "--input", "Built-in\\ M"])
    _, found = completions.complete(COMMANDS.root, words, ASKED.__getitem__)
    assert found == [("Built-in Microphone", "Core Audio")]


def test_every_command_and_every_flag_is_offered() -> None:
    assert answer("")[1] == list(COMMANDS.parsers)
    for name, parser in COMMANDS.parsers.items():
        flags = {max(a.option_strings, key=len) for a in parser._actions if a.option_strings}
        assert set(answer(f"{name} -")[1]) == flags


def test_every_placeholder_of_a_value_is_known_or_free() -> None:
    """A new kind of argument is either completed or named here as one that cannot be."""
    free = {"N", "S", "T", "K", "P", "R", "TIME", "RATE", "SIZE", "HEX", "HOURS", "WORDS"}
    free |= {"JSON|KEY=VALUE", "DEV", "COMMAND"}
    for parser in (COMMANDS.root, *COMMANDS.parsers.values()):
        for action in parser._actions:
            if action.nargs != 0 and not action.choices:
                assert str(action.metavar) in completions._KINDS.keys() | free


def test_every_candidate_comes_with_a_few_words() -> None:
    words = completions.Words(COMMANDS.root, COMMANDS.parsers, [""])
    _, found = completions.complete(COMMANDS.root, words, ASKED.__getitem__)
    assert all(told for _, told in found)


@pytest.mark.parametrize("shell", completions.SHELLS)
def test_the_scripts_tell_how_they_are_put_to_use(shell: str) -> None:
    assert f"moshi-client help --completions {shell}" in completions.script(shell)
