"""Regular files, and nothing else: a folder, a FIFO or a link that leads nowhere is no file,
whatever its name. Owns that look, which waits for nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

READ_BYTES: Final = 4 << 20


def regular(path: Path) -> os.stat_result | None:
    """The facts of the regular file that ``path`` is or leads to; None: there is none. Blocking.

    Raises:
        OSError: nobody can tell.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        if e.errno == errno.ELOOP:
            return None
        raise
    return found if stat.S_ISREG(found.st_mode) else None


def copy_of_size(source: Path, new: Path, size: int) -> None:
    """Copy a file's first ``size`` bytes; where it has fewer, the copy has a hole. Blocking."""
    with source.open("rb") as have, new.open("wb") as copy:
        while size > copy.tell() and (found := have.read(min(READ_BYTES, size - copy.tell()))):
            copy.write(found)
        copy.truncate(size)
