"""Files of the installation: finding the templates, writing without a torn file in between."""

from __future__ import annotations

import contextlib
import os
import tempfile
from importlib import resources
from pathlib import Path

import moshid
from moshid.errors import ServiceFailed


def template(name: str) -> bytes:
    """A template by file name: from the installed package, else from the checkout.

    Raises:
        ServiceFailed: it is in neither.
    """
    packaged = resources.files("moshid").joinpath("_templates", name)
    if packaged.is_file():
        return packaged.read_bytes()
    checkout = Path(moshid.__file__).resolve().parents[1] / "launchd" / name
    try:
        return checkout.read_bytes()
    except OSError as e:
        raise ServiceFailed(
            f"the template {name} is missing from this installation",
            hint="Install moshid again.",
        ) from e


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> bool:
    """Put ``content`` at ``path`` by rename; returns whether anything changed.

    Raises:
        ServiceFailed: it cannot be written.
    """
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as e:
        raise ServiceFailed(
            f"{path} cannot be written: {e.strerror}", hint="Look at the folder's rights."
        ) from e
    return True
