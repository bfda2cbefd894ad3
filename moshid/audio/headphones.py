"""Whether a device puts its sound into an ear and not into the room. Owns the words that say so.

Only the name tells: PortAudio knows no kinds of device, and the macOS output "MacBook Pro Speakers"
keeps its name, or becomes "External Headphones", by the model's age when a plug goes in.
"""

from __future__ import annotations

import re
from typing import Final

WORDS: Final = (
    *("headphone", "headset", "earphone", "earbud", "earpiece", "earpods", "airpods", "in-ear"),
    *("hands-free", "handsfree", "buds", "kopfhörer", "ohrhörer", "écouteurs", "casque"),
    *("auricular", "cuffie", "hoofdtelefoon", "słuchawki", "наушники", "ヘッドホン", "耳机"),
)
_WORDS = re.compile("|".join(map(re.escape, WORDS)), re.IGNORECASE)


def are_headphones(device_name: str) -> bool:
    """Whether an output of this name is worn."""
    return _WORDS.search(device_name) is not None
