"""Where the cache's volume is mounted, as the ledger remembers it: so that an unplugged disk is not
taken for an empty folder. Owns that memory.
"""

from __future__ import annotations

from pathlib import Path

from moshid.downloads.disk import DiskPool
from moshid.downloads.engine import Engine
from moshid.downloads.ledger import Ledger
from moshid.downloads.ledger_thread import LedgerThread
from moshid.downloads.volume import MountedVolume, mount_point_of


async def known_mount(ledger: LedgerThread, disk: DiskPool, folder: Path) -> Path:
    """Where the volume of ``folder`` was mounted when this ledger last saw it; now, if never."""
    known = await ledger.call(Ledger.meta, _key(folder))
    if known is not None:
        return Path(known)
    found = await disk.run(mount_point_of, folder)
    await ledger.call(Ledger.set_meta, _key(folder), str(found))
    return found


async def look_again(engine: Engine) -> None:
    """Remember a disk that was plugged in since; what is no longer mounted stays known."""
    volume = engine.volume
    if not isinstance(volume, MountedVolume):
        return
    found = await engine.on_disk(mount_point_of, volume.folder)
    if volume.is_deeper(found):
        volume.mount_point = found
        await engine.ledger.call(Ledger.set_meta, _key(volume.folder), str(found))


def _key(folder: Path) -> str:
    return f"mount:{folder}"
