"""The known models: names to repositories, and the rule that picks a quality.

Pure, no numerical library. What files a repository has is ``files``'s to know; its functions are
offered here too.

The rule: the quality's own file on disk, if there is one; else bf16 on disk, quantised at load;
else the pre-quantised repository. ``auto`` takes the best of what is on disk that suits the memory,
and with nothing on disk what suits the memory.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from moshid.errors import ModelNotFound
from moshid.model import memory
from moshid.model.files import CheckpointPaths as CheckpointPaths
from moshid.model.files import locate as locate
from moshid.model.files import qualities_on_disk
from moshid.model.files import select_files as select_files

QUALITIES: Final = ("bf16", "q8", "q4")
"""Best first."""

MEMORY_SHARE: Final = 0.4
"""``auto`` takes a quality whose weights stay below this share of the machine's memory: the rest
is the cache of keys and values, the system's and other programs'."""

_REPO_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What the Hub allows, and what is safe as a name of a folder."""

OnDisk = Callable[[str], Mapping[str, Path]]
"""Repository → its files in the cache, path in the repository to file."""


class Entry(msgspec.Struct, frozen=True):
    """A model by name. ``repos`` and ``sizes_bytes`` (weights) by quality, as far as known."""

    name: str
    description: str
    repos: dict[str, str]
    sizes_bytes: dict[str, int]
    revision: str = "main"


class Choice(msgspec.Struct, frozen=True):
    """Where a model of a quality comes from. ``quality`` is what it will run as; ``fetch`` what
    the repository is asked for (bf16 when it is quantised at load)."""

    name: str
    repo: str
    revision: str
    quality: str
    fetch: str
    on_disk: bool
    size_bytes: int | None
    reason: str


_SEVEN_B: Final = {"bf16": 15_375_697_208, "q8": 8_168_645_376, "q4": 4_805_385_728}


def _kyutai(name: str, description: str) -> Entry:
    repos = {quality: f"kyutai/{name}-mlx-{quality}" for quality in QUALITIES}
    return Entry(name, description, repos, _SEVEN_B)


CATALOGUE: Final[dict[str, Entry]] = {
    entry.name: entry
    for entry in (
        _kyutai("moshiko", "Moshi, 7B, a male voice"),
        _kyutai("moshika", "Moshi, 7B, a female voice"),
        Entry(
            "demo",
            "a parrot that repeats you: the demonstration's model, served on loopback",
            {"bf16": "moshid/demo-parrot-mlx"},
            {"bf16": 93_293_248},
        ),
    )
}
"""The models known by name, in the order they are listed."""


def resolve(name: str) -> Entry:
    """The entry of a catalogue name, or one made for ``org/repo``.

    Raises:
        ModelNotFound: neither; the message suggests close names.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    for entry in CATALOGUE.values():
        if name in entry.repos.values():
            quality = next(q for q, repo in entry.repos.items() if repo == name)
            return msgspec.structs.replace(
                entry,
                name=name,
                repos={quality: name},
                sizes_bytes={quality: entry.sizes_bytes[quality]},
            )
    if _REPO_NAME.fullmatch(name):
        quality = _quality_in_name(name.partition("/")[2])
        return Entry(name, "a repository on the Hub", {quality: name}, {})
    close = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ModelNotFound(
        f"there is no model {name!r}{meant}",
        hint=f"Known: {', '.join(CATALOGUE)}; or give a Hub repository as org/name.",
        suggestions=close,
    )


def choose(
    entry: Entry, quality: str, on_disk: OnDisk, *, memory_bytes: int | None = None
) -> Choice:
    """Which repository a quality comes from, by the rule above.

    ``memory_bytes`` is the machine's memory, asked of the system when not given.

    Raises:
        ModelNotFound: the entry has no such quality, nor bf16 to make it from.
    """
    have = {q: repo for q, repo in entry.repos.items() if q in qualities_on_disk(on_disk(repo))}
    if quality != "auto":
        return _choice(entry, quality, have, f"{quality} was asked for")
    limit = MEMORY_SHARE * (memory.total_bytes() if memory_bytes is None else memory_bytes)
    possible = [q for q in QUALITIES if q in (have or entry.repos) or "bf16" in have]
    suiting = [q for q in possible if entry.sizes_bytes.get(q, 0) <= limit]
    best = suiting[0] if suiting else possible[-1]
    where = "on disk" if have else "on the Hub"
    return _choice(entry, best, have, f"the best {where} for {limit / 1e9:.1f} GB of weights")


def _choice(entry: Entry, quality: str, have: Mapping[str, str], reason: str) -> Choice:
    for source in (quality, "bf16"):
        if source in have:
            return _made(entry, quality, source, True, reason)
    for source in (quality, "bf16"):
        if source in entry.repos:
            return _made(entry, quality, source, False, reason)
    only = next(iter(entry.repos))
    raise ModelNotFound(
        f"{entry.name} is {only} and cannot be had as {quality}",
        hint=f"Use --quality {only} or auto.",
    )


def _made(entry: Entry, quality: str, source: str, on_disk: bool, reason: str) -> Choice:
    return Choice(
        name=entry.name,
        repo=entry.repos[source],
        revision=entry.revision,
        quality=quality,
        fetch=source,
        on_disk=on_disk,
        size_bytes=entry.sizes_bytes.get(source),
        reason=reason,
    )


def _quality_in_name(repo: str) -> str:
    return next((q for q in ("q8", "q4") if q in repo.lower().split("-")), "bf16")
