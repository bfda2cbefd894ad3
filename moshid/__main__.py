"""The command ``moshid``, also as ``python -m moshid``. Owns a Ctrl-C that comes before the command
line is even read."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, as ``cli.main`` does."""
    try:
        from moshid import cli  # takes long enough to be interrupted

        return cli.main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
