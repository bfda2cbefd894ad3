"""The macOS app bundle: a copy of the interpreter that may ask for the microphone.

Under launchd a program is its own subject for the microphone permission, and the interpreter's own
bundle lacks the key that makes macOS ask. Not yet seen on a Mac; built and run on Linux by a test.
"""

from __future__ import annotations

import hashlib
import json
import plistlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from moshid import __version__
from moshid.errors import ServiceFailed
from moshid.service import files
from moshid.service.runner import Runner, shown

AD_HOC: Final = "-"
"""codesign's name for no identity: works, but each rebuild loses the microphone's permission."""

_PROBE: Final = """
import json, os, sys, sysconfig
stdlib = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
stdlib |= {os.path.join(path, "lib-dynload") for path in stdlib}
paths = [p for p in sys.path if os.path.isdir(p) and p not in stdlib]
base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps({"base": base, "prefix": sys.base_prefix, "paths": paths}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a copied interpreter needs in order to find its libraries and moshid."""

    executable: Path
    environment: dict[str, str]


def find_interpreter(runner: Runner, python: str = sys.executable) -> Interpreter:
    """The real executable behind ``python`` (no virtual environment's link, no launcher).

    Raises:
        ServiceFailed: it does not run.
    """
    ran = runner.run([python, "-P", "-c", _PROBE])
    if not ran.ok:
        raise ServiceFailed(f"{python} does not run: {ran.said}", hint="Make the venv anew.")
    facts: dict[str, Any] = json.loads(ran.stdout)
    # A framework's bin/python only starts this one, whose bundle would then be asked about.
    framework = Path(facts["prefix"], "Resources/Python.app/Contents/MacOS/Python")
    executable = framework if framework.exists() else Path(facts["base"])
    paths = ":".join(facts["paths"])
    return Interpreter(executable, {"PYTHONHOME": facts["prefix"], "PYTHONPATH": paths})


def app_path(home: Path) -> Path:
    """Where the bundle stands."""
    return home / "moshid.app"


def executable_of(app: Path) -> Path:
    """The program in the bundle."""
    return app / "Contents" / "MacOS" / "moshid"


def sign_command(app: Path, identity: str = AD_HOC) -> list[str]:
    """The codesign call for the bundle."""
    return ["codesign", "--force", "--sign", identity, str(app)]


def build(app: Path, interpreter: Interpreter, runner: Runner, *, identity: str = AD_HOC) -> bool:
    """Build and sign the bundle, unless the same one stands there; returns whether it was built.

    Building it anew would lose the permission given to an ad-hoc signed one.

    Raises:
        ServiceFailed: it cannot be written or signed.
    """
    info = info_plist(interpreter.executable, identity)
    if read_info(app) == info and executable_of(app).exists():
        return False
    fresh = app.with_name(f".{app.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        executable_of(fresh).parent.mkdir(parents=True)
        shutil.copy(interpreter.executable, executable_of(fresh))
        executable_of(fresh).chmod(0o755)
        (fresh / "Contents" / "Info.plist").write_bytes(plistlib.dumps(info))
        _sign(fresh, runner, identity)
        shutil.rmtree(app, ignore_errors=True)
        fresh.rename(app)
    except OSError as e:
        raise ServiceFailed(f"{app} cannot be written: {e}", hint="Look at the rights.") from e
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return True


def info_plist(executable: Path, identity: str) -> dict[str, Any]:
    """The bundle's Info.plist, with what it was made of."""
    text = files.template("Info.plist.in").replace(b"@VERSION@", __version__.encode())
    info: dict[str, Any] = plistlib.loads(text)
    info["MoshidInterpreterSHA256"] = hashlib.sha256(executable.read_bytes()).hexdigest()
    info["MoshidSignedBy"] = identity
    return info


def read_info(app: Path) -> dict[str, Any] | None:
    """The Info.plist of a bundle that stands, or None."""
    try:
        info: dict[str, Any] = plistlib.loads((app / "Contents" / "Info.plist").read_bytes())
    except (OSError, plistlib.InvalidFileException):
        return None
    return info


def _sign(app: Path, runner: Runner, identity: str) -> None:
    command: Sequence[str] = sign_command(app, identity)
    if runner.which("codesign") is None:
        raise ServiceFailed(
            "codesign is not there, and an unsigned program gets no microphone",
            hint=f"Install the command line tools (xcode-select --install), then: {shown(command)}",
        )
    ran = runner.run(command)
    if not ran.ok:
        raise ServiceFailed(
            f"the app bundle cannot be signed: {ran.said}", hint=f"By hand: {shown(command)}"
        )
