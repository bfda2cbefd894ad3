"""The daemon's place: Python, platform, home, socket, the daemon itself, the ledger."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import sqlite3
import stat
import sys
import tempfile
from pathlib import Path
from typing import Final

from moshid import MIN_PROTOCOL, PROTOCOL, __version__
from moshid.checks.check import Check, Machine
from moshid.downloads import ledger_file
from moshid.downloads.ledger_file import APPLICATION_ID, MIGRATIONS
from moshid.service import answering
from moshid.settings import MOVE_AWAY, SOCKET_PATH_LIMIT_BYTES, Settings

PYTHONS: Final = ((3, 11), (3, 12))
MACOS_MIN: Final = 14
"""First macOS with MLX wheels."""

FREE_OR_ELSEWHERE: Final = "Make room there, or set MOSHID_HOME elsewhere."


def check_python(_machine: Machine) -> list[Check]:
    """The interpreter that runs moshid."""
    seen = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] in PYTHONS:
        return [Check("python", "ok", seen)]
    return [Check("python", "fail", seen, "Install moshid with Python 3.11 or 3.12.")]


def check_platform(machine: Machine) -> list[Check]:
    """The operating system and processor."""
    seen = platform.platform()
    if machine.platform == "linux":
        return [Check("platform", "ok", f"{seen} (MLX on the CPU)")]
    if machine.platform != "darwin":
        return [Check("platform", "fail", seen, "moshid runs on macOS and Linux.")]
    release = platform.mac_ver()[0]
    if platform.machine() != "arm64":
        return [Check("platform", "fail", seen, "MLX needs Apple silicon.")]
    if release and int(release.split(".")[0]) < MACOS_MIN:
        return [Check("platform", "fail", seen, f"MLX needs macOS {MACOS_MIN} or later.")]
    return [Check("platform", "ok", seen)]


def check_home(machine: Machine) -> list[Check]:
    """The home folder: ours, private, writable."""
    home = machine.settings.home
    try:
        facts = home.stat()
    except FileNotFoundError:
        return [_missing_home(home)]
    except OSError as e:
        return [Check("home", "fail", f"{home}: {e.strerror}", "Set MOSHID_HOME elsewhere.")]
    mode = stat.S_IMODE(facts.st_mode)
    seen = f"{home}, mode {mode:04o}"
    if not stat.S_ISDIR(facts.st_mode):
        return [Check("home", "fail", f"{home} is no folder", "Move it away.")]
    if facts.st_uid != os.getuid():
        return [Check("home", "fail", f"{seen}, of uid {facts.st_uid}", "Set MOSHID_HOME.")]
    if (refused := _refused(home)) is not None:
        mend = f"chmod 700 '{home}'" if refused.errno == errno.EACCES else FREE_OR_ELSEWHERE
        return [Check("home", "fail", f"{seen}, not writable: {refused.strerror}", mend)]
    if (in_the_way := _in_the_way(machine.settings)) is not None:
        return [in_the_way]
    if mode & 0o077:
        return [Check("home", "warn", f"{seen}, open to others", f"chmod 700 '{home}'")]
    return [Check("home", "ok", seen)]


def _in_the_way(settings: Settings) -> Check | None:
    """Whatever stands in the home where a start makes a folder, or its lock."""
    for folder in (settings.transcripts, settings.recordings, settings.run_dir):
        if os.path.lexists(folder) and not folder.is_dir():
            return Check("home", "fail", f"{folder} is no folder", MOVE_AWAY)
    if os.path.lexists(settings.lock) and not settings.lock.is_file():
        return Check("home", "fail", f"{settings.lock} is no file", MOVE_AWAY)
    return None


def _missing_home(home: Path) -> Check:
    if home.is_symlink():
        return Check("home", "fail", f"{home} is a link to nowhere", MOVE_AWAY)
    above = next(path for path in home.parents if path.exists())
    if (refused := _refused(above)) is not None:
        seen = f"{home} cannot be made: nothing can be in {above} ({refused.strerror})"
        return Check("home", "fail", seen, FREE_OR_ELSEWHERE)
    return Check("home", "ok", f"{home}, made at the first start")


def _refused(folder: Path) -> OSError | None:
    """Why nothing can be written there, or None. Permissions do not tell all: the disk may be full
    or read-only, and root has every one, in /proc, too."""
    try:
        with tempfile.TemporaryFile(prefix=".moshid-doctor-", dir=folder, buffering=0) as file:
            file.write(bytes(4096))
    except OSError as e:
        return e
    return None


def check_socket(machine: Machine) -> list[Check]:
    """The control socket's path, and that nothing else is there."""
    path = machine.settings.socket
    size = len(os.fsencode(path))
    if os.path.lexists(path) and not path.is_socket():
        what = "a folder" if path.is_dir() else "a file"
        return [Check("socket", "fail", f"{path} is {what}, no socket", MOVE_AWAY)]
    return [Check("socket", "ok", f"{path} ({size} of {SOCKET_PATH_LIMIT_BYTES} bytes)")]


def check_daemon(machine: Machine) -> list[Check]:
    """Whether a daemon runs, and whether lock and socket agree about it."""
    owner = _lock_owner(machine.settings)
    hello = answering.hello(machine.settings)
    if hello is not None:
        seen = f"running, pid {hello.get('pid')}, version {hello.get('version')}"
        if hello.get("version") != __version__:
            todo = f"This is {__version__}: moshi-client stop, then start it again."
            return [Check("daemon", "warn", seen, todo)]
        if not hello.get("min_protocol", 0) <= PROTOCOL or hello.get("protocol", 0) < MIN_PROTOCOL:
            return [Check("daemon", "fail", f"{seen}, another protocol", "Restart it.")]
        return [Check("daemon", "ok", seen)]
    if owner is not None:
        seen = f"process {owner} holds the lock, but does not answer"
        return [Check("daemon", "fail", seen, "See its log (moshi-client logs), then end it.")]
    return [Check("daemon", "warn", "not running", "Start it: moshid run, or moshid install.")]


def _lock_owner(settings: Settings) -> str | None:
    """The process that holds the lock, or None; the lock is tried for a moment only."""
    try:
        fd = os.open(settings.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def check_log(machine: Machine) -> list[Check]:
    """The log: it can be written, and older ones can be put aside."""
    path = machine.settings.log_file
    if os.path.lexists(path) and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        return [Check("log", "fail", f"{path} is no file that can be written", MOVE_AWAY)]
    aside = [path.with_name(f"{path.name}.{n + 1}") for n in range(machine.settings.log_keep)]
    for old in aside:
        if os.path.lexists(old) and not old.is_file():
            seen = f"{old} is no file: {path.name} cannot be rotated, and grows"
            return [Check("log", "warn", seen, MOVE_AWAY)]
    return [Check("log", "ok", str(path))]


def check_ledger(machine: Machine) -> list[Check]:
    """The download ledger: readable, ours, not from the future, not damaged."""
    path = machine.settings.ledger
    if not path.exists():
        return [Check("ledger", "ok", f"{path}, made at the first start")]
    if not path.is_file():
        what = "a folder" if path.is_dir() else "something"
        return [Check("ledger", "fail", f"{path} is {what}, and no file", ledger_file.MOVE_AWAY)]
    todo = "Start moshid: it keeps a damaged ledger beside the new one, and rebuilds it."
    try:
        version, application, verdict = _read_ledger(path)
    except sqlite3.Error as e:
        return [Check("ledger", "fail", f"{path}: {e}", todo)]
    latest = len(MIGRATIONS) + 1
    if application != APPLICATION_ID:
        return [Check("ledger", "fail", f"{path} is no moshid ledger", "Move it away.")]
    if version > latest:
        newer = "Install the newer moshid again, or move the ledger away."
        return [Check("ledger", "fail", f"version {version}; this knows {latest}", newer)]
    if verdict != "ok":
        return [Check("ledger", "fail", f"damaged: {verdict}", todo)]
    return [Check("ledger", "ok", f"{path}, version {version}")]


def _read_ledger(path: Path) -> tuple[int, int, str]:
    """Version, application id and SQLite's verdict, changing nothing."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        db.close()
    return version, application, verdict
