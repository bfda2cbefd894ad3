"""What launchd and systemd are both told about the job."""

from __future__ import annotations

import math
from typing import Final

from moshid.settings import Settings

STOP_PARTS: Final = 2
"""The daemon may take ``stop_timeout_s`` for each of its workers."""

MARGIN_S: Final = 4.0


def kill_after_s(settings: Settings) -> int:
    """Seconds from SIGTERM until whatever is left may be killed."""
    return math.ceil(STOP_PARTS * settings.stop_timeout_s + MARGIN_S)
