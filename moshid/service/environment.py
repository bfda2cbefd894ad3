"""Which variables of the shell go into the job: launchd and systemd have no shell environment.

Pure. Never a token: the daemon reads it from the token file, whose path may go along.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import urlsplit

from moshid import settings
from moshid.errors import ServiceFailed
from moshid.settings import Settings

_PREFIXES = ("HF_", "MOSHID_")
_NAMES = frozenset({"HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"})
_CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
_TOKEN_NAME = re.compile(r"TOKEN|PASSWORD|SECRET", re.IGNORECASE)
_TOKEN_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def job_environment(
    configured: Settings, env: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The job's environment from the shell's ``env``, and warnings about what was left out.

    What ``configured`` has from flags goes along as ``MOSHID_*``: the job is run without flags.

    Raises:
        ServiceFailed: a path that it needs has line ends in it, or is not UTF-8.
    """
    chosen: dict[str, str] = {}
    warnings = []
    for name, value in sorted(env.items()):
        if not _belongs(name) or not value:
            continue
        reason = _unfit(name, value)
        if reason is None:
            chosen[name] = value
        else:
            warnings.append(f"{name} is left out: {reason}")
    chosen["MOSHID_HOME"] = str(configured.home)
    without_flags = settings.load({"home": configured.home}, chosen)
    for name in settings.setting_names():
        if getattr(configured, name) != getattr(without_flags, name):
            value = getattr(configured, name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            chosen[f"MOSHID_{name.upper()}"] = text
    for name, value in chosen.items():
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
            raise ServiceFailed(
                f"{name} is {value!r}, which no job's file can say",
                hint="Choose one in UTF-8, without line ends and other control characters.",
            )
    return chosen, warnings


def _belongs(name: str) -> bool:
    return (
        name.startswith(_PREFIXES)
        or name in _NAMES
        or name in _CERTIFICATES
        or name.lower() in _PROXIES
    )


def _unfit(name: str, value: str) -> str | None:
    """Why a variable must not be written into a file, or None."""
    if name == "HF_TOKEN_PATH":
        return None if value.isprintable() else "it has characters that cannot be written"
    if _TOKEN_NAME.search(name) or _TOKEN_VALUE.search(value):
        return "tokens are never written; the daemon reads the token file (huggingface-cli login)"
    if _has_credentials(value):
        return "it holds a user name or a password"
    if not value.isprintable():
        return "it has characters that cannot be written"
    return None


def _has_credentials(value: str) -> bool:
    if "@" not in value:
        return False
    try:
        return "@" in urlsplit(value if "://" in value else f"//{value}").netloc
    except ValueError:
        return True
