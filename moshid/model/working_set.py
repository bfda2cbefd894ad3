"""``python -m moshid.model.working_set``: what MLX recommends to use of the memory, as JSON.

A process of its own, since the daemon never loads mlx. ``null`` where there is no Metal.
"""

from __future__ import annotations

import json
import sys

import mlx.core as mx


def recommended_bytes() -> int | None:
    """Metal's recommended working set."""
    if not mx.metal.is_available():
        return None
    return int(mx.metal.device_info()["max_recommended_working_set_size"])


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"working_set_bytes": recommended_bytes()}))
