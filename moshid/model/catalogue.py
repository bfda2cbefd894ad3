"""The known models: names to repositories, and the rule that picks a quality.

Pure, no numerical library. What files a repository has is ``files``'s to know; its functions are
offered here too.

The rule: the quality's own file on disk, if there is one; else bf16 on disk, quantised at load;
else the pre-quantised repository. ``auto`` takes the best of what is on disk that suits the
machine, and with nothing on disk what suits the machine (the module ``auto`` says how). It never
leaves what is on disk for a download, so that loading by it always works; it says what to fetch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from moshid.errors import ModelNotFound
from moshid.model import auto, machine
from moshid.model.auto import Candidate, Chosen, Decision, Verdict
from moshid.model.files import CheckpointPaths as CheckpointPaths
from moshid.model.files import locate as locate
from moshid.model.files import qualities_on_disk, weights_bytes
from moshid.model.files import select_files as select_files
from moshid.model.machine import Machine
from moshid.model.qualities import QUALITIES as QUALITIES
from moshid.model.qualities import size_as

_REPO_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What the Hub allows, and what is safe as a name of a folder."""

OnDisk = Callable[[str], Mapping[str, Path]]
"""Repository → its files in the cache, path in the repository to file."""


class Entry(msgspec.Struct, frozen=True):
    """A model by name. ``repos``, ``sizes_bytes`` and ``digests`` (SHA-256, of the weights) by
    quality, as far as known."""

    name: str
    description: str
    repos: dict[str, str]
    sizes_bytes: dict[str, int]
    revision: str = "main"
    digests: dict[str, str] = {}


class Choice(msgspec.Struct, frozen=True):
    """Where a model of a quality comes from. ``quality`` is what it will run as; ``fetch`` what
    the repository is asked for (bf16 when it is quantised at load), of ``size_bytes``;
    ``loaded_bytes`` is what the weights take in memory; ``lasting``: what ``auto`` should remember
    of it; ``held``: the qualities on disk."""

    name: str
    repo: str
    revision: str
    quality: str
    fetch: str
    on_disk: bool
    size_bytes: int | None
    reason: str
    loaded_bytes: int | None = None
    lasting: Chosen | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What ``auto`` decides by, besides what is on disk. ``free_bytes``: memory that can be had
    now; ``verdict_of``: ``(name, quality, size in bytes)`` → what was measured here."""

    machine: Machine
    free_bytes: int | None = None
    verdict_of: Callable[[str, str, int | None], Verdict | None] = lambda *_what: None
    chosen: Callable[[str], Chosen | None] = lambda _name: None
    """What it took of a model before."""


# bf16 is the file; q8 and q4 are the tensors alone, some 100 kB less than their files.
_SEVEN_B: Final = {"bf16": 15_375_697_208, "q8": 8_168_645_376, "q4": 4_805_385_728}
_MOSHIKO_BF16: Final = "b9a46943f30c38ebed71581b6e4ef89a1285c8d404dc3aea3af1c3efdc7395df"


def _kyutai(name: str, description: str, digests: dict[str, str]) -> Entry:
    repos = {quality: f"kyutai/{name}-mlx-{quality}" for quality in QUALITIES}
    return Entry(name, description, repos, _SEVEN_B, digests=digests)


CATALOGUE: Final[dict[str, Entry]] = {
    entry.name: entry
    for entry in (
        _kyutai("moshiko", "Moshi, 7B, a male voice", {"bf16": _MOSHIKO_BF16}),
        _kyutai("moshika", "Moshi, 7B, a female voice", {}),
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
                digests={q: d for q, d in entry.digests.items() if q == quality},
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
    entry: Entry, quality: str, on_disk: OnDisk, *, situation: Situation | None = None
) -> Choice:
    """Which repository a quality comes from, by the rule above. Reads the disk.

    ``situation``: this machine, with nothing measured, when not given.

    Raises:
        ModelNotFound: the entry has no such quality, nor bf16 to make it from.
    """
    have = held(entry, on_disk)
    sizes = dict(entry.sizes_bytes)
    for repo in have.values():
        sizes |= weights_bytes(on_disk(repo))
    if quality != "auto":
        choice = _choice(entry, quality, have, f"{quality} was asked for")
    else:
        decision = _decide(entry, have, sizes, situation or Situation(machine.here()))
        choice = _choice(entry, decision.quality, have, decision.why)
        if have and decision.lasting:
            lasting = Chosen(decision.quality, list(decision.among))
            choice = msgspec.structs.replace(choice, lasting=lasting)
    size_bytes = _size_of(choice.quality, sizes)
    return msgspec.structs.replace(choice, loaded_bytes=size_bytes, held=tuple(have))


def held(entry: Entry, on_disk: OnDisk) -> dict[str, str]:
    """The qualities of an entry that are on disk, each with its repository. Reads the disk."""
    return {q: repo for q, repo in entry.repos.items() if q in qualities_on_disk(on_disk(repo))}


def missing(name: str, quality: str, held: Iterable[str]) -> str:
    """What is to be said where a model is not on disk as ``quality``, but as those ``held``."""
    there = " and ".join(held)
    return f"{name} is on disk as {there}, not as {quality}" if there else f"{name} is not on disk"


def _decide(
    entry: Entry, have: Mapping[str, str], sizes: Mapping[str, int], situation: Situation
) -> Decision:
    possible = [q for q in QUALITIES if q in (have or entry.repos) or "bf16" in have]
    smaller = [q for q in QUALITIES[QUALITIES.index(possible[-1]) + 1 :] if q in entry.repos]
    advice = "get a smaller one: moshi-client download {} --quality {}"
    return auto.decide(
        [Candidate(q, _size_of(q, sizes)) for q in possible],
        situation.machine,
        where="on disk" if have else "on the Hub",
        free_bytes=situation.free_bytes if have else None,  # a download takes its time
        verdict_of=lambda q, size_bytes: situation.verdict_of(entry.name, q, size_bytes),
        advice=advice.format(entry.name, smaller[0]) if smaller else None,
        before=situation.chosen(entry.name) if have else None,
    )


def _size_of(quality: str, sizes: Mapping[str, int]) -> int | None:
    if quality in sizes:
        return sizes[quality]
    return size_as(quality, sizes["bf16"]) if "bf16" in sizes else None


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
