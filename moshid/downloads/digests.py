"""Digests of files and chunks: which kinds there are, hashing from an open file. Owns no state.

An LFS file's etag is its SHA-256; a small file's is its git blob id, the SHA-1 of
``blob <size>\\0`` and the content. A chunk's digest guards the disk against faults and tells
one arrival from another; XXH3 (128 bits) does that at memory speed. What proves content to
strangers is the whole file's digest alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Final, Protocol

import xxhash

from moshid.downloads.plan import XXH3, Chunk
from moshid.errors import NoDigest

READ_BYTES: Final = 2 << 20
"""Few and large reads: each gives the interpreter's lock away and has to get it back."""
_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Hasher(Protocol):
    """What hashlib's objects can do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """The digest so far."""

    def hexdigest(self) -> str:
        """The digest so far, in hex."""

    def copy(self) -> Hasher:
        """An independent hasher in the same state."""


def is_digest(etag: str | None) -> bool:
    """Whether an etag proves content: the hex digits of a SHA-256 or of a git blob id."""
    return etag is not None and _HEX.fullmatch(etag) is not None


def check_etag(etag: str | None, what: str) -> str:
    """The etag, if it is a digest.

    Raises:
        NoDigest: it proves nothing.
    """
    if etag is None or not is_digest(etag):
        raise NoDigest(f"the server's etag for {what} is no digest: {etag!r}")
    return etag


def whole_hasher(etag: str, size: int) -> Hasher:
    """A hasher whose hexdigest over the file is ``etag``, if the file is right."""
    if len(etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def chunk_hasher(kind: str) -> Hasher:
    """A hasher for a chunk's digest, of the kind that its blob has in the ledger."""
    return xxhash.xxh3_128() if kind == XXH3 else hashlib.sha256()


def hash_range(fd: int, start: int, stop: int, hasher: Hasher) -> bool:
    """Feed the bytes of an open file to ``hasher``; False if the file ends before ``stop``.
    Blocking."""
    buffer = memoryview(bytearray(min(READ_BYTES, max(1, stop - start))))
    while start < stop:
        count = os.preadv(fd, [buffer[: stop - start]], start)
        if count == 0:
            return False
        hasher.update(buffer[:count])
        start += count
    return True


def prefix_hasher(fd: int, chunk: Chunk) -> Hasher | None:
    """A hasher that has taken what is durable of a chunk; None if that is no longer what the ledger
    knows. Blocking."""
    hasher = chunk_hasher(chunk.digest_kind)
    if not chunk.durable_bytes:
        return hasher
    hash_range(fd, chunk.offset, chunk.offset + chunk.durable_bytes, hasher)
    return hasher if hasher.copy().digest() == chunk.digest else None


def digest_of(fd: int, chunk: Chunk) -> bytes:
    """The digest that a chunk has on disk, as far as the file goes. Blocking."""
    hasher = chunk_hasher(chunk.digest_kind)
    hash_range(fd, chunk.range.start, chunk.range.stop, hasher)
    return hasher.digest()


def file_matches(path: Path, etag: str, size: int) -> bool:
    """Whether it is a regular file of exactly this size and digest. Blocking."""
    if not _is_of_size(path.stat(), size):
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a FIFO by now
    try:
        if not _is_of_size(os.fstat(fd), size):
            return False
        hasher = whole_hasher(etag, size)
        return hash_range(fd, 0, size, hasher) and hasher.hexdigest() == etag
    finally:
        os.close(fd)


def _is_of_size(found: os.stat_result, size: int) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size == size
