"""The client starts fast: the standard library only, and little of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.client_process import CLIENT_DIR, client_env, short_home
from tests.fakes.fake_daemon import FakeDaemon

ALLOWED = {
    "argparse",
    "array",
    "collections",
    "copyreg",
    "enum",
    "errno",
    "functools",
    "genericpath",
    "gettext",
    "itertools",
    "json",
    "keyword",
    "locale",
    "math",
    "moshi_client",
    "operator",
    "os",
    "posixpath",
    "re",
    "reprlib",
    "select",
    "selectors",
    "signal",
    "socket",
    "stat",
    "time",
    "types",
    "warnings",
}
"""Top-level modules, besides those whose name begins with an underscore (C accelerators)."""

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
bare = set(sys.modules)
from moshi_client.cli import main
code = main(sys.argv[2:])
import json
sys.stderr.write(json.dumps({"code": code, "modules": sorted(set(sys.modules) - bare)}))
"""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock", {"daemon.status": {}}) as fake:
        yield fake


def imported(home: Path, *args: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, str(CLIENT_DIR), *args],
        env=client_env(home),
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stderr.splitlines()[-1])
    tops = {name.partition(".")[0] for name in report["modules"]}
    return report["code"], {name for name in tops if not name.startswith("_")}


@pytest.mark.parametrize("args", [("status",), ("status", "--json")])
def test_only_the_listed_modules_are_imported(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    code, modules = imported(daemon.path.parent, *args)
    assert code == 0
    assert modules <= ALLOWED, f"also imported: {sorted(modules - ALLOWED)}"
    assert "moshi_client" in modules
