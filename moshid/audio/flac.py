"""A FLAC as it is read to its end. Owns what libFLAC is told of its length.

How long a FLAC is its header says, and libFLAC decodes no further: where that is too little, the
rest would not be heard. So it is told of no length, which the format allows, and ends with the
file. What may stand behind the sound is known by the header's length after all.
"""

from __future__ import annotations

import os
from typing import Final

from moshid.audio.unfinished import Size, Unfinished

HEAD: Final = b"fLaC"
BLOCK_SAMPLES_AT: Final = 10
"""How many samples a frame has at most, 16 bits."""

TOTAL_AT: Final = 21
"""Where the header has the total, 36 bits; the first four are what is left of the sample size."""

HEAD_BYTES: Final = TOTAL_AT + 5


class Flac(Unfinished):
    """The file as it is, but that its header says no length."""

    def __init__(self, path: str, head: bytes) -> None:
        """``head``: its first bytes. Raises OSError."""
        super().__init__(path, Size(TOTAL_AT, bytes((head[TOTAL_AT] & 0xF0, 0, 0, 0, 0))))
        self.told_samples = int.from_bytes(head[TOTAL_AT:HEAD_BYTES], "big") & 0xF_FFFF_FFFF
        """Of each channel, as the header has it; 0 is unknown."""
        self.block_samples = int.from_bytes(head[BLOCK_SAMPLES_AT : BLOCK_SAMPLES_AT + 2], "big")

    def is_end(self, samples: int) -> bool:
        """Whether it is over when nothing can be decoded after ``samples`` of them: something
        else follows, as a tag, or its last frame was cut off."""
        is_behind = samples >= self.told_samples
        is_told = samples == self.told_samples > 0
        return is_told or (is_behind and self.tell() >= os.fstat(self.fileno()).st_size)


def find_flac(path: str) -> Flac | None:
    """None for any other file. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    is_flac = head.startswith(HEAD) and len(head) == HEAD_BYTES
    return Flac(path, head) if is_flac else None
