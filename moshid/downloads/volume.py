"""The volume that holds the files: is it there, how much room has it. Owns the seam for tests.

It asks by ``os.path``, which says no where a path cannot even be looked at (a dead network mount, a
folder of somebody else's); ``Path`` raises there.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from moshid.errors import DiskFull, DownloadError, MoshidError, VolumeMissing

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE: Final = frozenset(
    {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EIO, errno.ENOTCONN}
)
"""What a call may meet where a disk was unplugged, or a network mount has died."""

CACHE_NAME: Final = "the Hugging Face cache"
CACHE_HINT: Final = "Check the folder that HF_HUB_CACHE names: does it exist, may it be written?"

_HINTS: Final = {
    errno.EFBIG: "Its volume holds no file as large as that (FAT: 4 GB): use another one.",
    errno.ENOLCK: "Its volume knows no file locks (NFS without them): use another one.",
    errno.EIO: "Its disk does not answer as it should: look into the system's log and at the "
    "connection, then resume the job: what has come is kept.",
    errno.ENAMETOOLONG: "Its path is too long: move it up.",
}

MARGIN_SHARE: Final = 32


def room_for(need_bytes: int, margin_bytes: int) -> int:
    """Room wanted for a file that still needs ``need_bytes``: a margin is left to others, at most
    ``margin_bytes`` and a 32nd of the need, so that a small file fits onto a small volume."""
    return need_bytes + min(margin_bytes, need_bytes // MARGIN_SHARE)


class Volume(Protocol):
    """What the engine asks of a volume. Blocking, briefly."""

    def present(self) -> bool:
        """Whether the volume is mounted."""

    def free_bytes(self) -> int:
        """Room for us; 0 if the volume is not there."""


class MountedVolume:
    """The volume below a folder. ``mount_point``: where it was mounted when the ledger first saw
    it; a folder that is no longer a mount point is an empty hole into another volume."""

    def __init__(self, folder: Path, mount_point: Path) -> None:
        self.folder = folder
        self.mount_point = mount_point

    def present(self) -> bool:
        if os.path.ismount(self.mount_point):
            return _is_readable(self.mount_point)
        return os.path.isdir(self.folder / ".locks" / "moshid")

    def free_bytes(self) -> int:
        return free_bytes_at(self.folder)

    def is_deeper(self, mount_point: Path) -> bool:
        """Whether a volume is mounted there now below the one that was known: a disk that was
        plugged in since."""
        return mount_point != self.mount_point and mount_point.is_relative_to(self.mount_point)


class FolderVolume:
    """The volume of a folder that is there for good or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def present(self) -> bool:
        return os.path.isdir(self._folder)

    def free_bytes(self) -> int:
        return free_bytes_at(self._folder)


def free_bytes_at(folder: Path) -> int:
    """Room for us in a folder, or where it would be; 0 if nobody knows."""
    try:
        stat = os.statvfs(nearest(folder))
    except OSError:
        return 0
    return stat.f_bavail * stat.f_frsize


def nearest(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def is_one_volume(a: Path, b: Path) -> bool:
    """Whether two folders lie on one volume, or would; yes, if nobody knows. Blocking."""
    try:
        return nearest(a).stat().st_dev == nearest(b).stat().st_dev
    except OSError:
        return True


def mount_point_of(folder: Path) -> Path:
    """Where the volume that holds the folder is mounted."""
    at = nearest(folder.absolute()).resolve()
    while not os.path.ismount(at) and at != at.parent:
        at = at.parent
    return at


def disk_error(
    error: OSError, volume: Volume, name: str = CACHE_NAME, hint: str = CACHE_HINT
) -> MoshidError:
    """What a failed disk operation means to the user; ``name``: of the place, and what to check."""
    if error.errno in FULL:
        return DiskFull(f"no room left on the volume of {name}: {error.strerror}")
    if error.errno in _GONE and not volume.present():
        return VolumeMissing(f"the volume that holds {name} is not there")
    return DownloadError(
        f"{name} cannot be used: {error.strerror} ({error.filename or 'in a partial file'})",
        hint=_HINTS.get(error.errno or 0, hint),
    )


def allocated_bytes(path: Path) -> int:
    """How much room a file takes on its volume already; 0 if there is none, or nobody can see it.
    Blocking."""
    with suppress(OSError):
        return path.stat().st_blocks * 512
    return 0


def stat_of(path: Path) -> tuple[int, int, int] | None:
    """Size, mtime in ns and inode of a file, if there is one. Blocking."""
    with suppress(FileNotFoundError, NotADirectoryError):
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino
    return None


def _is_readable(folder: Path) -> bool:
    """Whether a folder can be looked into: a network mount that has died is one all the same."""
    try:
        os.statvfs(folder)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
