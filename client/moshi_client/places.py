"""Where things are: home, socket, log file, Hugging Face cache. Owns the path rules.

The same rules as moshid.settings and huggingface_hub, without importing either.
"""

from __future__ import annotations

import os
import stat
import sys

from moshi_client.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_PATH_LIMIT_BYTES = 103 if sys.platform == "darwin" else 107


def home(env: Mapping[str, str], flag: str | None = None) -> str:
    """``--home``, else ``MOSHID_HOME``, else the platform's place for a user's state."""
    named = flag or env.get("MOSHID_HOME")
    if named:
        return absolute(named)
    user = env.get("HOME") or os.path.expanduser("~")
    if sys.platform == "darwin":
        return os.path.join(user, "Library", "Application Support", "moshid")
    return os.path.join(
        env.get("XDG_STATE_HOME") or os.path.join(user, ".local", "state"), "moshid"
    )


def socket_path(env: Mapping[str, str], home_dir: str, flag: str | None = None) -> str:
    """``--socket``, else ``MOSHID_SOCKET``, else ``socket`` in config.toml, else in the home.

    Raises:
        UsageError: the path is over the platform's limit, or config.toml cannot be read.
    """
    path = absolute(
        flag
        or env.get("MOSHID_SOCKET")
        or _from_config(os.path.join(home_dir, "config.toml"))
        or os.path.join(home_dir, "moshid.sock")
    )
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_LIMIT_BYTES:
        raise UsageError(
            f"the socket's path has {size} bytes, over the platform's limit of "
            f"{SOCKET_PATH_LIMIT_BYTES}: {path}",
            "Set MOSHID_SOCKET to a shorter path, for the daemon and for the client.",
        )
    return path


def hf_cache(env: Mapping[str, str]) -> str:
    """The Hub cache that this environment means, by huggingface_hub's rules."""
    user_cache = env.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    hf_home = os.path.expanduser(env.get("HF_HOME") or os.path.join(user_cache, "huggingface"))
    older = env.get("HUGGINGFACE_HUB_CACHE") or os.path.join(hf_home, "hub")
    return absolute(env.get("HF_HUB_CACHE") or older)


def absolute(path: str) -> str:
    """The path made absolute, without ``..``. Raises as ``rooted``."""
    return os.path.normpath(rooted(path))


def rooted(path: str) -> str:
    """The path made absolute, ``~`` expanded.

    Raises:
        UsageError: it is empty, or relative to a folder that has been deleted.
    """
    if not path:  # which would mean the current folder
        raise UsageError(
            "a path is empty", "Name a file or folder; a shell's variable may be unset."
        )
    expanded = os.path.expanduser(path)
    try:
        return expanded if os.path.isabs(expanded) else os.path.join(os.getcwd(), expanded)
    except FileNotFoundError as e:
        raise UsageError(
            f"{path} is relative to a folder that is gone",
            "Change to another folder, or give an absolute path.",
        ) from e


def is_same_file(one: str, other: str) -> bool:
    """Whether both paths lead to one file, there already or yet to be written."""
    one, other = absolute(one), absolute(other)
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _from_config(path: str) -> str | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would be waited for
            raise UsageError(f"{path} is no regular file", "Remove it, or move it away.")
        with open(path, "rb") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}") from e
    import tomllib  # 10 ms that only those who have a config.toml pay

    try:
        value = tomllib.loads(text.decode("utf-8-sig")).get("socket")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as e:
        raise UsageError(f"{path} is not TOML: {e}", "Correct it; moshid cannot start.") from e
    return str(value) if value else None
