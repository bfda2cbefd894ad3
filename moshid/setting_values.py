"""The values of settings: from TOML's or a text's to those of a field's type, or refused. Pure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moshid import durations
from moshid.errors import BadSettings
from moshid.schedule import Schedule

RECORD_BYTES_MAX = 2**32 - 2**20
"""A WAV counts its bytes in 32 bits; some room is left for its header."""

INTEGER_MAX = 2**63 - 1
"""What the ledger can keep."""

_ABOVE_0 = {
    "model_step_timeout_s": "every step takes some time",
    "worker_heartbeat_s": "every answer takes some time",
    "worker_heartbeat_missed_max": "a worker may be late once",
}

_CHOICES = {
    "log_level": ("debug", "info", "warning", "error"),
    "download_profile": ("auto", "verified", "robust", "parallel", "turbo"),
}


def convert(name: str, kind: str, value: Any, source: str) -> Any:
    """``value`` as the type ``kind``; strings are parsed, since the environment has no others.

    ``name``: the setting's; ``source``: who gave it, for faults.

    Raises:
        BadSettings: it cannot be that.
    """
    try:
        if kind == "bool":
            return _bool(value)
        if kind == "tuple[str, ...]":
            return _endpoints(value)
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
            raise TypeError(f"{value!r} has the wrong type")
        match kind:
            case "Path":
                return absolute(value, source)  # type: ignore[arg-type]
            case "int":
                converted: float = _integer(value)
            case "float":
                converted = _finite(value)
            case _:
                return _choice(name, str(value))
    except (TypeError, ValueError, OverflowError) as e:
        # A choice says all by itself; a number needs to be told what was wanted.
        wanted = "" if "str" in kind else f" should be {kind}"
        raise BadSettings(f"{source}: {name}{wanted}: {e}") from e
    if converted < 0:
        raise BadSettings(f"{source}: {name} may not be negative")
    if converted == 0 and name in _ABOVE_0:
        raise BadSettings(f"{source}: {name} may not be 0: {_ABOVE_0[name]}")
    if name == "talk_record_max_bytes" and converted > RECORD_BYTES_MAX:
        raise BadSettings(
            f"{source}: {name} may not be over {RECORD_BYTES_MAX} (4.29 GB): a WAV cannot be longer"
        )
    return converted


def absolute(path: str | Path, source: str) -> Path:
    """The path made absolute, ``~`` expanded.

    Raises:
        BadSettings: it is relative to a folder that has been deleted, or to nobody's home.
    """
    try:
        return Path(path).expanduser().absolute()
    except FileNotFoundError as e:
        raise BadSettings(
            f"{source}: {path} is relative to a folder that is gone",
            hint="Change to another folder, or give an absolute path.",
        ) from e
    except RuntimeError as e:
        raise BadSettings(f"{source}: {path} is in the home of a user who is not known") from e


def _choice(name: str, value: str) -> str:
    if name == "keep_alive":
        durations.parse(value)
    if name == "download_schedule" and value.strip():
        Schedule.parse(value)
    choices = _CHOICES.get(name)
    if choices is not None and value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")
    return value


_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.strip().lower() not in _BOOLS:
        raise ValueError(f"{value!r} is neither true nor false")
    return _BOOLS[value.strip().lower()]


def _integer(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{value!r} is no whole number")
    number = int(value)
    if abs(number) > INTEGER_MAX:
        raise ValueError(f"{value!r} is too large")
    return number


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def _endpoints(value: Any) -> tuple[str, ...]:
    """URLs, in TOML a list, else with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(e, str) for e in given):
        raise ValueError(f"{value!r} is no list of endpoints")
    endpoints = tuple(e.strip().rstrip("/") for e in given if e.strip())
    for endpoint in endpoints:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(f"{endpoint!r} is no http or https endpoint")
        if "@" in parts.netloc:
            raise ValueError("an endpoint may not hold a user name or a password")
    return endpoints
