"""What the daemon of a home answers, asked from outside by one plain call."""

from __future__ import annotations

import json
import socket
from typing import Any, Final

from moshid.settings import Settings

HELLO_TIMEOUT_S: Final = 5.0


def hello(settings: Settings) -> dict[str, Any] | None:
    """What it answers to daemon.hello, or None."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "daemon.hello", "params": {}}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(HELLO_TIMEOUT_S)
            sock.connect(str(settings.socket))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                result = json.loads(lines.readline()).get("result")
    except (OSError, ValueError, AttributeError):
        return None
    return result if isinstance(result, dict) else None
