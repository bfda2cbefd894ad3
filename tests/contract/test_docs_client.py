"""docs/operations.md names every command, flag, setting, variable, check and error kind."""

from __future__ import annotations

import argparse
import re
from dataclasses import fields
from pathlib import Path

import pytest

from moshi_client import cli
from moshi_client import errors as client_errors
from moshi_client.tui.act import BINDINGS
from moshid import doctor, install
from moshid.__main__ import main as moshid_main
from moshid.errors import all_errors
from moshid.settings import Settings, setting_names

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CONTRACT_COMMANDS = {
    *("status", "talk", "download", "downloads", "pause", "resume", "cancel", "verify", "models"),
    *("load", "unload", "ps", "bench", "devices", "events", "call", "methods", "help", "logs"),
    *("tui", "doctor", "stop"),
}
COMMANDS = cli.build_parser().parsers


def rows(heading: str) -> dict[str, list[str]]:
    """The tables' rows below a heading, by the names in backticks in their first cell."""
    section = re.split(r"^#+ ", TEXT.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.M)[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else ():
            found[name.split()[0]] = cells
    return found


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {max(a.option_strings, key=len) for a in parser._actions if a.option_strings}


SHARED_FLAGS = {"--help", "--json", "--socket", "--home"}


def test_the_commands_are_the_contracts() -> None:
    assert set(COMMANDS) == CONTRACT_COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_row_with_its_arguments(name: str) -> None:
    row = rows("moshi-client")[name]
    text = " ".join(row).replace("\\|", "|")
    own = flags_of(COMMANDS[name]) - SHARED_FLAGS
    if name in ("talk", "download"):
        own -= set(rows(name))
    if name == "tui":
        own -= flags_of(COMMANDS["talk"])
    missing = {flag for flag in own if not re.search(rf"{flag}\b", text)}
    assert not missing, f"{name}: not in its row: {missing}"
    for action in COMMANDS[name]._actions:
        if not action.option_strings and name not in ("help",):
            assert str(action.metavar) in text


@pytest.mark.parametrize("name", ["talk", "download"])
def test_no_flag_is_documented_that_is_not_there(name: str) -> None:
    listed = set(re.findall(r"`(--[a-z0-9-]+)", " ".join(r[0] for r in rows(name).values())))
    assert listed == flags_of(COMMANDS[name]) - SHARED_FLAGS


def test_every_key_of_the_screen_has_a_row() -> None:
    documented = set(rows("The screen"))
    assert documented == {key for keys, _ in BINDINGS for key in keys.split()}


def test_shared_flags_and_output_rules_are_told() -> None:
    for flag in SHARED_FLAGS - {"--help"}:
        assert f"`{flag}" in TEXT


def test_every_exit_code_has_a_row() -> None:
    codes = {v for k, v in vars(client_errors).items() if k.startswith("EXIT_")}
    section = TEXT.partition("### Exit codes\n")[2].partition("###")[0]
    assert {int(n) for n in re.findall(r"^\| (\d+) \|", section, flags=re.M)} == codes


def test_every_setting_has_a_row_with_its_default() -> None:
    table = rows("Settings")
    assert set(table) == {"home", *setting_names()}
    for field in fields(Settings):
        cells = table[field.name]
        assert cells[1] == f"`MOSHID_{field.name.upper()}`"
        if field.name not in ("home", "socket"):
            default = field.default
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            shown = "none" if default in ("", ()) else shown
            assert cells[2].strip("`") == shown


def test_every_error_kind_has_a_row_with_its_hint() -> None:
    table = rows("Errors")
    for error in all_errors():
        assert table[error.kind][2].replace("\\|", "|") == error.default_hint


def test_every_kind_of_the_client_has_a_row() -> None:
    classes = [c for c in vars(client_errors).values() if isinstance(c, type)]
    kinds = {c.kind for c in classes if issubclass(c, client_errors.ClientError)}
    assert kinds - set(rows("Errors")) == set()


def test_no_error_kind_is_documented_that_is_not_there() -> None:
    kinds = {error.kind for error in all_errors()}
    classes = [c for c in vars(client_errors).values() if isinstance(c, type)]
    kinds |= {c.kind for c in classes if issubclass(c, client_errors.ClientError)}
    assert set(rows("Errors")) - kinds == set()


def test_every_check_of_doctor_has_a_row() -> None:
    table = set(rows("doctor"))
    # The Hub's check gives five verdicts, each with a row of its own.
    expected = {name for name, _ in doctor.CHECKS} - {"hub"}
    hub = {"cache", "token", "certificates", "endpoint", "models"}
    assert expected | hub | {"settings"} == table


@pytest.mark.parametrize("part", [install, doctor], ids=lambda m: m.__name__)
def test_the_flags_of_install_and_doctor_are_told(part: object) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    part.add_arguments(parser)  # type: ignore[attr-defined]
    for flag in flags_of(parser):
        assert f"[{flag}" in TEXT


def test_the_flags_of_the_demo_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        moshid_main(["demo", "--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) > 2
    for flag in flags:
        assert f"[{flag}" in TEXT
