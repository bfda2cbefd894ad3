"""A model as ``model.list`` tells it: what is known, what is on disk, what ``auto`` would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moshid.model import catalogue, quantised_store
from moshid.model.catalogue import OnDisk, Situation
from moshid.model.files import qualities_on_disk
from moshid.model.quantised_store import Copy


def describe(
    name: str,
    resident: str | None,
    on_disk: OnDisk,
    copies: Sequence[Copy],
    situation: Situation,
) -> dict[str, Any]:
    """The entry of ``name``, a catalogue name or a repository. Reads the disk.

    ``resident``: the model that is loaded; ``copies``: all quantised copies there are.
    """
    entry = catalogue.resolve(name)
    have: list[str] = []
    disk_bytes = 0
    for repo in entry.repos.values():
        files = on_disk(repo)
        disk_bytes += sum(path.stat().st_size for path in files.values())
        have += qualities_on_disk(files)
    choice = catalogue.choose(entry, "auto", on_disk, situation=situation)
    return {
        "name": name,
        "repo": next(iter(entry.repos.values())),
        "repos": entry.repos,
        "description": entry.description,
        "qualities": entry.sizes_bytes,
        "digests": entry.digests,
        "on_disk": bool(have),
        "on_disk_qualities": list(dict.fromkeys(have)),
        "disk_bytes": disk_bytes,
        "quantised": quantised_store.listed(copies, entry.repos.values()),
        "auto": {"quality": choice.quality, "why": choice.reason},
        "loaded": name == resident,
    }
