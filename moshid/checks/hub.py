"""The Hub: the cache and its volume, the token, the endpoint, the models on disk."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from moshid.checks.check import Check, Machine
from moshid.downloads.cache import Cache
from moshid.downloads.certificates import named, trusting
from moshid.model.catalogue import CATALOGUE
from moshid.model.files import qualities_on_disk

FREE_MIN_BYTES: Final = 1_000_000_000
FREE_WANTED_BYTES: Final = 6_000_000_000
"""The smallest of the 7B checkpoints, q4, and some room."""

ENDPOINT_TIMEOUT_S: Final = 5.0

HUB_PROBE: Final = """
import json
from huggingface_hub import constants, get_token
print(json.dumps({
    "cache": constants.HF_HUB_CACHE,
    "endpoint": constants.ENDPOINT,
    "offline": bool(constants.HF_HUB_OFFLINE),
    "token": get_token() is not None,
    "token_path": constants.HF_TOKEN_PATH,
}))
"""


def check_hub(machine: Machine) -> list[Check]:
    """Everything about the Hub, as huggingface_hub sees it in this environment."""
    facts = machine.probe(HUB_PROBE)
    cache = Path(facts["cache"]).absolute()
    where = [_check_cache(cache), _check_token(facts), _check_certificates(machine.env)]
    return [*where, _check_endpoint(facts), _check_models(cache)]


def _check_cache(cache: Path) -> Check:
    there = next(path for path in (cache, *cache.parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    seen = f"{cache} on {_mount_point(there)}, {free_bytes / 1e9:.1f} GB free"
    if not os.access(there, os.W_OK | os.X_OK):
        return Check("cache", "fail", f"{seen}, not writable", "Set HF_HOME to a folder of yours.")
    if free_bytes < FREE_MIN_BYTES:
        return Check("cache", "fail", seen, "Free some space, or set HF_HOME to a bigger volume.")
    if free_bytes < FREE_WANTED_BYTES:
        return Check("cache", "warn", seen, "The smallest of the 7B models takes 4.8 GB.")
    return Check("cache", "ok", seen)


def _mount_point(path: Path) -> Path:
    path = path.resolve()
    return next(p for p in (path, *path.parents) if os.path.ismount(p))


def _check_token(facts: dict[str, Any]) -> Check:
    if facts["token"]:
        return Check("token", "ok", "there (not shown)")
    return Check("token", "ok", f"none ({facts['token_path']}); public models need none")


def _check_certificates(env: Mapping[str, str]) -> Check:
    found = named(env)
    if found is None:
        return Check("certificates", "ok", "those that come with moshid")
    try:
        trusting(found[1])
    except OSError as e:
        todo = f"Let {found[0]} name a file or folder of PEM certificates, or unset it."
        seen = f"{found[0]} is {found[1]}, which cannot be used: {e.strerror or e}"
        return Check("certificates", "fail", seen, todo)
    return Check("certificates", "ok", f"{found[1]} ({found[0]})")


def _check_endpoint(facts: dict[str, Any]) -> Check:
    endpoint = facts["endpoint"]
    if facts["offline"]:
        return Check("endpoint", "warn", "HF_HUB_OFFLINE is set: nothing is fetched", "Unset it.")
    if not _is_url(endpoint):
        todo = "Set HF_ENDPOINT to an address like https://huggingface.co, or unset it."
        return Check("endpoint", "fail", f"HF_ENDPOINT is no URL: {endpoint!r}", todo)
    try:
        status = head_status(endpoint)
    except (OSError, ValueError) as e:
        reason = e.reason if isinstance(e, urllib.error.URLError) else e
        todo = "Downloads wait for the line; models on disk work without it."
        return Check("endpoint", "warn", f"{endpoint} cannot be reached: {reason}", todo)
    return Check("endpoint", "ok", f"{endpoint} answers ({status})")


def _is_url(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of its port, or of its brackets
        return False


def head_status(url: str) -> int:
    """The status of a HEAD request, any status; proxies as the environment says.

    Raises:
        OSError, ValueError: no answer in time, or no URL.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=ENDPOINT_TIMEOUT_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as e:
        with e:
            return e.code


def _check_models(cache: Path) -> Check:
    found = []
    for entry in CATALOGUE.values():
        for repo in entry.repos.values():
            qualities = qualities_on_disk(Cache(cache).files(repo, entry.revision))
            found += [f"{entry.name} {quality}" for quality in qualities]
    if found:
        return Check("models", "ok", ", ".join(sorted(set(found))))
    return Check("models", "warn", "none on disk", "Fetch one: moshi-client download moshiko.")
