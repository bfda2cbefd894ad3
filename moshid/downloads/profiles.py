"""The download profiles: how a line is used. Owns their numbers, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from moshid.downloads.plan import SHA256, XXH3
from moshid.errors import InvalidParams

MIB: Final = 1 << 20
CHUNK_BYTES_MIN: Final = 64 * 1024
CHUNK_BYTES_MAX: Final = 1024 * MIB
WORKERS_MAX: Final = 64

KILL_BYTES_MAX: Final = 8 * MIB
KILL_BYTES_ALL: Final = 64 * MIB
"""A kill costs a connection at most so much, and all together."""

_HOP_BYTES_MAX: Final = 2 * MIB

SPARES_MAX: Final = 2
"""So many connections may be silent while others use their seats (see guard)."""

SIPHON_BPS: Final = 100e6
"""Plain connections that bring more than that together are read by threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How to fetch. ``stall_timeout_s``: without progress for so long, a connection is dropped;
    ``connections_start`` below ``connections_max``: the number is found by measuring goodput.
    ``whole_from_bytes``: files of so many bytes are tried by hf-transfer first (see turbo)."""

    name: str
    chunk_bytes: int
    connections_start: int
    connections_max: int
    stall_timeout_s: float = 30.0
    retry_first_s: float = 0.2
    retry_max_s: float = 30.0
    digest_kind: str = XXH3
    siphon_bps: float = SIPHON_BPS
    whole_from_bytes: int | None = None

    @property
    def workers(self) -> int:
        """How many fetch, in turns if need be."""
        return self.connections_max + min(SPARES_MAX, self.connections_max - 1)

    @property
    def risk_bytes(self) -> int:
        """How much of a connection's bytes may be less than durable before it waits for the disk: a
        kill loses that and the hop that was just coming in."""
        return self._kill_bytes - self.hop_bytes

    @property
    def hop_bytes(self) -> int:
        """How much comes in between two looks at that."""
        return min(_HOP_BYTES_MAX, self._kill_bytes // 2)

    @property
    def _kill_bytes(self) -> int:
        return min(KILL_BYTES_MAX, KILL_BYTES_ALL // self.workers)


PROFILES: Final[Mapping[str, Profile]] = {
    p.name: p
    for p in (
        Profile(name="auto", chunk_bytes=12 * MIB, connections_start=4, connections_max=8),
        Profile(
            name="verified",
            chunk_bytes=50_000_000,
            connections_start=10,
            connections_max=10,
            stall_timeout_s=60.0,
            digest_kind=SHA256,
        ),
        Profile(
            name="robust",
            chunk_bytes=8 * MIB,
            connections_start=4,
            connections_max=4,
            retry_first_s=0.05,
            retry_max_s=10.0,
        ),
        Profile(
            name="parallel",
            chunk_bytes=16 * MIB,
            connections_start=24,
            connections_max=24,
            stall_timeout_s=20.0,
        ),
        Profile(
            name="turbo",
            chunk_bytes=16 * MIB,
            connections_start=4,
            connections_max=16,
            whole_from_bytes=64 * MIB,
        ),
    )
}


def choose(
    profiles: Mapping[str, Profile], name: str, *, chunk_bytes: int | None, workers: int | None
) -> Profile:
    """The profile of that name, with the user's own chunk size and number of connections.

    Raises:
        InvalidParams: no such profile, or a number out of range.
    """
    if name not in profiles:
        raise InvalidParams(f"no profile {name!r}", hint=f"There are: {', '.join(profiles)}.")
    profile = profiles[name]
    if chunk_bytes is not None:
        if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES_MAX:
            raise InvalidParams(f"chunk_bytes is {CHUNK_BYTES_MIN} to {CHUNK_BYTES_MAX}")
        profile = replace(profile, chunk_bytes=chunk_bytes)
    if workers is not None:
        if not 1 <= workers <= WORKERS_MAX:
            raise InvalidParams(f"workers is 1 to {WORKERS_MAX}")
        profile = replace(profile, connections_start=workers, connections_max=workers)
    return profile
