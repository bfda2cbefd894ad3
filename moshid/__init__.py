"""moshid: an always-on service for the full-duplex speech model Moshi.

Nothing is created at import time; ``moshid.daemon`` is the composition root.
"""

from typing import Final

__version__: Final = "0.1.0"

PROTOCOL: Final = 1
"""Version of the control protocol this daemon speaks."""

MIN_PROTOCOL: Final = 1
"""Oldest protocol version a client may ask for."""
