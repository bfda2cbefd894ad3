"""Runs hf-transfer for the daemon: one URL into one file that is there. A process to be killed.

``python -m moshid.downloads.turbo_child LOCK_FD``: the descriptor by which it shares the file's
lock. The order is one line of JSON on stdin, since a signed URL is nobody else's to see. Prints a
line for every range that is written, its bytes, and at last ``done`` or ``failed``. hf-transfer
blocks every thread of Python while it runs, so a second process watches stdin: when the daemon is
gone, both end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
from typing import Any, Final

RANGE_BYTES: Final = 4 << 20
"""So much is asked for, and held in memory, at once: 16 of them take 120 MB, of 10 MiB 250 MB."""

RETRIES_MAX: Final = 5
FAILURES_AT_ONCE_MAX: Final = 3
REASON_MAX: Final = 500


def main() -> None:
    """Carry out the order ``{"url", "headers", "path", "size", "connections"}``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the daemon decides
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = json.loads(line)
    link = _name_for(order["path"])
    _watch(link, int(sys.argv[1]))
    size = order["size"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # a wrong answer may be the whole file
    try:
        _fetch(order, link)
    except Exception as e:  # noqa: BLE001 - hf-transfer raises nothing more special
        _say(f"failed {re.sub(r'[a-z]+://[^ )]*', 'its URL', str(e))[:REASON_MAX]!r}")
    else:
        _say("done")


def _fetch(order: dict[str, Any], link: str) -> None:
    import hf_transfer

    hf_transfer.download(
        order["url"],
        link,
        order["connections"],
        RANGE_BYTES,
        parallel_failures=min(FAILURES_AT_ONCE_MAX, order["connections"]),
        max_retries=RETRIES_MAX,
        headers=order["headers"],
        callback=lambda told: _say(str(_written(told))),
    )


def _written(told: int) -> int:
    """The bytes of a range; hf-transfer tells the distance from its first to its last one."""
    return told + 1 if told % RANGE_BYTES == RANGE_BYTES - 1 else told


def _name_for(path: str) -> str:
    """A second name of the file, since hf-transfer deletes what it could not finish."""
    link = os.path.join(tempfile.mkdtemp(prefix="moshid-turbo-"), "file")
    os.symlink(path, link)
    return link


def _watch(link: str, lock_fd: int) -> None:
    """Have a process wait until this one ends, or stdin does, then end and tidy up what is left."""
    watched = os.getpid()
    lives, alive = os.pipe()
    if os.fork():
        os.close(lives)
        return  # ``alive`` is closed by nobody but this process's end
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for fd in (alive, lock_fd, 1):
            os.close(fd)
        select.select([0, lives], [], [])
        if os.getppid() == watched:
            os.kill(watched, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.unlink(link)
        os.rmdir(os.path.dirname(link))
    finally:
        os._exit(0)


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main()
