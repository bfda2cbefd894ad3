"""What must be true of a home and a cache after a kill; and what a power cut takes on top of it.

Reads ledgers through copies: opening one in place would mend it.
"""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any, Final

import xxhash

from moshid.downloads.ledger import Ledger
from moshid.downloads.plan import Chunk, bytes_done

PAGE_BYTES: Final = 4096


@dataclass(slots=True)
class Claims:
    """What a ledger says of partial files: chunks by etag, and what of it is not so."""

    chunks: dict[str, list[Chunk]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def durable_bytes(self) -> int:
        """All that is called durable."""
        return sum(bytes_done(c) for c in self.chunks.values())


def claims(ledger: Path, partials: Path, right: bytes | None = None) -> Claims:
    """Compare a ledger with the partial files in a folder, byte for byte: done chunks, and the
    durable prefixes of the others. ``right``: what belongs there; where it is there, nothing is
    lost: another home may have brought what came wrong to this one."""
    found = Claims()
    if not ledger.exists():
        return found
    with tempfile.TemporaryDirectory() as name, closing(_copy(ledger, Path(name))) as copy:
        for path in sorted(partials.glob("*.part")):
            if (blob := copy.blob(path.stem)) is None or blob.size != path.stat().st_size:
                continue
            if blob.inode != path.stat().st_ino:
                continue  # of another file: it is read again before it is trusted
            found.chunks[path.stem] = copy.chunks(path.stem)
            found.faults += _lies(path, found.chunks[path.stem], blob.digest_kind, right)
    return found


def _copy(ledger: Path, folder: Path) -> Ledger:
    for suffix in ("", "-wal"):
        if (part := ledger.with_name(ledger.name + suffix)).exists():
            shutil.copyfile(part, folder / f"ledger.db{suffix}")
    return Ledger(folder / "ledger.db")


def _lies(path: Path, chunks: list[Chunk], kind: str, right: bytes | None) -> list[str]:
    lies = []
    with path.open("rb") as file:
        for chunk in chunks:
            size = chunk.size if chunk.done else chunk.durable_bytes
            content = os.pread(file.fileno(), size, chunk.offset)
            is_right = right is not None and content == right[chunk.offset : chunk.offset + size]
            if size and not is_right and _digest(kind, content) != chunk.digest:
                state = "done" if chunk.done else f"durable to {size}"
                lies.append(f"chunk {chunk.index} of {path.name} is {state} and differs on disk")
    return lies


def _digest(kind: str, content: bytes) -> bytes:
    return xxhash.xxh3_128_digest(content) if kind == "xxh3" else sha256(content).digest()


def blobs_in(cache: Path) -> list[Path]:
    """The blobs of all repositories, without what huggingface_hub has not finished."""
    found = sorted(cache.glob("models--*/blobs/*"))
    return [b for b in found if b.suffix != ".incomplete"]


def cache_faults(cache: Path, known: bytes | None = None) -> list[str]:
    """Whatever of the cache is not verified content: blobs that do not have their names' digest,
    entries of snapshots that lead nowhere. ``known``: the content of a blob that another tool had
    left damaged."""
    faults = []
    for blob in blobs_in(cache):
        content = blob.read_bytes()
        git = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        right = blob.name in (sha256(content).hexdigest(), git.hexdigest())
        if not right and content != known:
            faults.append(f"the blob {blob.name} has other content than its name says")
    for entry in sorted(cache.glob("models--*/snapshots/*/**/*")):
        if entry.is_symlink() and not entry.exists():
            faults.append(f"{entry.relative_to(cache)} leads nowhere")
    return faults


def cut_power(journal: Path, ledger: Path, rng: random.Random) -> Counter[str]:
    """Take from the disk what a power cut may take, at random; returns how much of which kind.

    Pages of a partial file that were written and not synced have their old content again, each by
    chance; a rename whose folder was not synced may be undone; a commit of the ledger that did not
    return is in its WAL in part, or as garbage.
    """
    taken: Counter[str] = Counter()
    whole_lines = journal.read_bytes().split(b"\n")[:-1]  # the kill may have cut the last one
    events = [json.loads(line) for line in whole_lines]
    _undo_renames(events, rng, taken)
    synced = {i for e in events if e["kind"] == "synced" for i in e["ids"]}
    moved = {e["old"]: e["new"] for e in events if e["kind"] == "renamed"}
    for event in reversed([e for e in events if e["kind"] == "write" and e["id"] not in synced]):
        _undo_write(event, moved, rng, taken)
    _cut_wal(events, ledger, rng, taken)
    return taken


def _undo_renames(events: list[dict[str, Any]], rng: random.Random, taken: Counter[str]) -> None:
    for i, event in reversed(list(enumerate(events))):
        if event["kind"] != "renamed" or not event["fresh"]:
            continue
        old, new = Path(event["old"]), Path(event["new"])
        folder = str(new.parent)
        durable = any(e["kind"] == "folder" and e["path"] == folder for e in events[i:])
        if not durable and os.path.lexists(new) and not os.path.lexists(old) and rng.random() < 0.5:
            new.rename(old)
            taken["renames"] += 1


def _undo_write(
    event: dict[str, Any], moved: dict[str, str], rng: random.Random, taken: Counter[str]
) -> None:
    name, old = event["path"], base64.b64decode(event["old"])
    while name in moved and not os.path.lexists(name):
        name = moved[name]
    if not os.path.isfile(name):
        return
    with open(name, "r+b") as file:
        for at in range(0, len(old), PAGE_BYTES):
            if rng.random() < 0.5:
                os.pwrite(file.fileno(), old[at : at + PAGE_BYTES], event["offset"] + at)
                taken["pages"] += 1


def _cut_wal(
    events: list[dict[str, Any]], ledger: Path, rng: random.Random, taken: Counter[str]
) -> None:
    """The power went in the middle of a commit, if one was not seen to return."""
    wal = ledger.with_name(ledger.name + "-wal")
    seen = [e for e in events if e["kind"] == "wal"]
    if not seen or not wal.exists():
        return
    with wal.open("r+b") as file:
        durable, now_bytes = seen[-1]["size"], os.fstat(file.fileno()).st_size
        header = base64.b64encode(os.pread(file.fileno(), 32, 0)).decode()
        if header != seen[-1]["header"] or now_bytes <= durable:
            return
        keep = rng.randint(durable, now_bytes - 1)
        taken["commits"] += 1
        os.ftruncate(file.fileno(), keep)
        if rng.random() < 0.5:
            os.pwrite(file.fileno(), rng.randbytes(now_bytes - keep), keep)
