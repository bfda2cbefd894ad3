"""``python -m moshi_client``: the same as the ``moshi-client`` command."""

from __future__ import annotations

import sys

from moshi_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
