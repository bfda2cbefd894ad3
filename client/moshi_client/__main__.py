"""The command ``moshi-client``, also as ``python -m moshi_client``. Owns a Ctrl-C that comes before
the command line is even read."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""``errors.EXIT_INTERRUPTED``, of which we may not have come to know."""


def main() -> int:
    """Run one command; returns the exit code."""
    try:
        from moshi_client import cli  # takes long enough to be interrupted

        return cli.main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
