"""The download profiles: how a line is used. Owns their numbers, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from moshid.errors import InvalidParams

MIB: Final = 1 << 20
CHUNK_BYTES_MIN: Final = 64 * 1024
CHUNK_BYTES_MAX: Final = 1024 * MIB
WORKERS_MAX: Final = 64

_SEGMENT_BYTES_MAX: Final = 3 * MIB
_SEGMENTS_BYTES_ALL: Final = 24 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How to fetch. ``stall_timeout_s``: without progress for so long, a connection is dropped;
    ``connections_start`` below ``connections_max``: the number is found by measuring goodput."""

    name: str
    chunk_bytes: int
    connections_start: int
    connections_max: int
    stall_timeout_s: float = 30.0
    retry_first_s: float = 0.2
    retry_max_s: float = 30.0

    @property
    def segment_bytes(self) -> int:
        """How much is made durable at once. A kill loses at most two segments a connection (one
        arriving, one on its way to the disk): 6 MiB, and 48 MiB over all connections."""
        share = _SEGMENTS_BYTES_ALL // self.connections_max
        return max(64 * 1024, min(_SEGMENT_BYTES_MAX, share))


PROFILES: Final[Mapping[str, Profile]] = {
    p.name: p
    for p in (
        Profile(name="auto", chunk_bytes=16 * MIB, connections_start=3, connections_max=8),
        Profile(
            name="verified",
            chunk_bytes=50_000_000,
            connections_start=10,
            connections_max=10,
            stall_timeout_s=60.0,
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
    )
}


def choose(
    profiles: Mapping[str, Profile], name: str, *, chunk_bytes: int | None, workers: int | None
) -> Profile:
    """The profile of that name, with the user's own chunk size and number of connections.

    Raises:
        InvalidParams: no such profile, or a number out of range.
    """
    if name == "turbo":
        raise InvalidParams("the profile turbo is not built yet", hint="Use --profile parallel.")
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
