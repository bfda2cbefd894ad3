"""Settings and all paths. Owns the order defaults < config.toml < environment < flags.

Reads files and the environment only when ``load`` is called; imports only errors,
durations and setting_values.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from moshid import durations, setting_values
from moshid.errors import BadSettings, SocketPathTooLong

SOCKET_PATH_LIMIT_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest AF_UNIX path: sizeof(sun_path) is 104 on macOS and 108 on Linux, with the final NUL."""

MOVE_AWAY = "Remove it, or move it away."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Each field is documented in docs/operations.md."""

    home: Path
    socket: Path
    log_level: str = "info"
    log_max_bytes: int = 10_000_000
    log_keep: int = 3
    default_model: str = "moshiko"
    download_profile: str = "auto"
    download_endpoints: tuple[str, ...] = ()
    download_progress_hz: float = 4.0
    download_keep_awake: bool = True
    download_limit_bps: int = 0
    download_schedule: str = ""
    download_metered: bool = False
    keep_alive: str = durations.FOREVER
    unload_under_pressure: bool = True
    model_pulse_s: float = 1.0
    model_step_timeout_s: float = 5.0
    model_restart_max: int = 5
    model_restart_backoff_s: float = 0.5
    worker_heartbeat_s: float = 5.0
    worker_heartbeat_missed_max: int = 12
    stop_timeout_s: float = 8.0
    talk_keep_transcripts: int = 50
    talk_confirm_bytes: int = 1_000_000_000
    talk_pause_max_s: float = 3600.0
    talk_record_max_bytes: int = 2_000_000_000
    talk_record_min_free_bytes: int = 1_000_000_000

    @property
    def keep_alive_s(self) -> float | None:
        """How long an idle model stays resident; None: for ever."""
        return durations.parse(self.keep_alive)

    @property
    def ledger(self) -> Path:
        """The SQLite chunk ledger."""
        return self.home / "ledger.db"

    @property
    def lock(self) -> Path:
        """Locked by flock for the daemon's whole life."""
        return self.home / "moshid.lock"

    @property
    def config(self) -> Path:
        """The optional TOML file."""
        return self.home / "config.toml"

    @property
    def log_file(self) -> Path:
        """JSON lines, rotated by the daemon itself."""
        return self.home / "moshid.log"

    @property
    def transcripts(self) -> Path:
        """One JSON-lines file a talk."""
        return self.home / "transcripts"

    @property
    def recordings(self) -> Path:
        """A note on each recording under way; the recordings themselves are where users want."""
        return self.home / "recordings"

    @property
    def verdicts(self) -> Path:
        """What was measured of models on this machine; ``auto`` goes by it."""
        return self.home / "auto.json"

    @property
    def run_dir(self) -> Path:
        """FIFOs that clients make for ``--in -`` and ``--out -``."""
        return self.home / "run"


def default_home(env: Mapping[str, str]) -> Path:
    """``MOSHID_HOME``, else the platform's place for a user's state."""
    if env.get("MOSHID_HOME"):
        return setting_values.absolute(env["MOSHID_HOME"], "MOSHID_HOME")
    user = Path(env["HOME"]) if env.get("HOME") else Path.home()
    if sys.platform == "darwin":
        return user / "Library" / "Application Support" / "moshid"
    state = env.get("XDG_STATE_HOME")
    return (Path(state) if state else user / ".local" / "state") / "moshid"


def load(flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Settings from defaults, ``config.toml``, ``MOSHID_*`` variables and flags, in that order.

    Raises:
        BadSettings: an unknown key, a value of the wrong type, or a file that is none.
        SocketPathTooLong: the control socket's path is over the platform's limit.
    """
    env = os.environ if env is None else env
    given = {k: v for k, v in (flags or {}).items() if v is not None}
    named = given.pop("home", None)
    home = default_home(env) if named is None else setting_values.absolute(named, "--home")
    values: dict[str, Any] = {"home": home, "socket": home / "moshid.sock"}
    values |= _from_toml(home / "config.toml")
    values |= _from_env(env)
    values |= _from_flags(given)
    settings = Settings(**values)
    if len(os.fsencode(settings.socket)) > SOCKET_PATH_LIMIT_BYTES:
        raise SocketPathTooLong(
            f"the control socket's path has {len(os.fsencode(settings.socket))} bytes, over the "
            f"platform's limit of {SOCKET_PATH_LIMIT_BYTES}: {settings.socket}"
        )
    return settings


def from_arguments(args: argparse.Namespace, env: Mapping[str, str] | None = None) -> Settings:
    """Settings with the flags ``--home``, ``--socket``, ``--log-level``, ``--set NAME=VALUE``.

    Raises:
        BadSettings, SocketPathTooLong: as ``load``.
    """
    flags: dict[str, Any] = {name: getattr(args, name, None) for name in _OWN_FLAGS}
    for pair in getattr(args, "set", None) or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadSettings(f"--set {pair}: write --set NAME=VALUE", flag="--set")
        flags[name] = value
    return load(flags, env)


_OWN_FLAGS = ("home", "socket", "log_level")


def setting_names() -> list[str]:
    """The names that config.toml, MOSHID_<NAME> and the flags may set, besides home."""
    return [f.name for f in fields(Settings) if f.name != "home"]


def _flag(name: str) -> str:
    """How a setting is given on the command line, for faults."""
    return f"--{name.replace('_', '-')}" if name in _OWN_FLAGS else "--set"


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():  # a FIFO is not waited for
            raise BadSettings(
                f"{path} is no regular file: settings cannot be there", hint=MOVE_AWAY
            )
        text = path.read_text(encoding="utf-8-sig")  # editors put a mark there
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise BadSettings(f"{path} cannot be read: {e}") from e
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise BadSettings(f"{path} is not TOML: {e}") from e
    return {name: _convert(name, value, str(path)) for name, value in table.items()}


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: _convert(name, env[var], var)
        for name in setting_names()
        if env.get(var := f"MOSHID_{name.upper()}")
    }


def _convert(name: str, value: Any, source: str) -> Any:
    """``value`` as the field's type. Raises BadSettings."""
    kinds = {f.name: str(f.type) for f in fields(Settings) if f.name != "home"}
    if name not in kinds:
        raise BadSettings(f"{source}: there is no setting {name!r}; known: {', '.join(kinds)}")
    return setting_values.convert(name, kinds[name], value, source)


def _from_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """A fault of theirs has the flag among its facts: it is the command line that is wrong."""
    values = {}
    for name, value in given.items():
        try:
            values[name] = _convert(name, value, _flag(name))
        except BadSettings as e:
            raise BadSettings(e.message, flag=_flag(name)) from e
    return values
