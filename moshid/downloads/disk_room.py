"""Room for a blob on its volume: looked for before anything is written there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine, check_present
from moshid.downloads.volume import allocated_bytes, room_for
from moshid.errors import DiskFull


async def open_with_room(
    engine: Engine,
    repo: str,
    etag: str,
    size: int,
    margin_bytes: int,
    plain: Sequence[Path] = (),
) -> Partial:
    """The partial file of a digest, out of what the shelf has of it, or ``plain`` files that lie
    elsewhere; ``margin_bytes``: see Parts.

    Raises:
        VolumeMissing: its volume is not mounted now.
        DiskFull: there is not enough room, and nothing was written.
        PartialLocked: somebody else is writing it.
        DownloadError: what else keeps it from being opened.
    """
    shelf = engine.shelf
    await check_present(engine)
    need = size - await engine.on_disk(allocated_bytes, shelf.partial(etag))
    free = await engine.on_disk(engine.volume.free_bytes)
    wanted = room_for(need, margin_bytes)
    if need > 0 and free < wanted:
        raise DiskFull(
            f"{wanted / 1e6:,.1f} MB are needed on the volume of {shelf.name} (with a small "
            f"reserve), {free / 1e6:,.1f} MB are free"
        )
    await engine.on_disk(shelf.seed, repo, etag, size, plain)
    return await engine.open_partial(etag, size)
