"""An MP3 as it is read to its end. Owns what libsndfile is told of its length.

How long an MP3 is, libsndfile takes from the header that its first frame may be (Xing's), or else
works out from that frame's bit rate; and it reads no further. Both are wrong where the rate changes
or files were joined. So a header has to tell of about as many bytes as there are, and any other MP3
is said to be longer than it can be: then its end is where nothing more comes.
"""

from __future__ import annotations

import io
import os
import struct
from typing import Any, Final

MP3_FRAME: Final = 1152
"""Samples of each channel, at most."""

ENDLESS_BYTES: Final = 2**50
"""Of which libsndfile makes more than 2**45 samples at any rate, and less than 2**63."""

ID3_BYTES: Final = 10
TAGS_MAX: Final = 10
XING: Final = (b"Xing", b"Info")
XING_AT_MAX: Final = 64
"""In its frame: how much is before it depends on version and channels, 38 bytes at most."""

XING_COUNTS: Final = 3
"""The flags that say that it has the numbers of frames and of bytes, which come next."""

UNCOUNTED_BYTES_MAX: Final = 2048
"""Small tags at the end, and its own frame."""


class Mp3(io.FileIO):
    """The file as it is, but that it never says where it ends, where only reading tells."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        super().__init__(path)
        self._is_endless = self._is_at_end = False
        self._hidden, self._is_endless = self._look()

    def readinto(self, buffer: Any) -> int:
        """As of a file; what libsndfile reads by. A header that is wrong has no name."""
        begin = self.tell()
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        for at in self._hidden:
            if 0 <= at - begin < count:
                view[at - begin] = 0
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        self._is_at_end = self._is_endless and (offset, whence) == (0, os.SEEK_END)
        return super().seek(offset, whence)

    def tell(self) -> int:
        """As of a file, but at the end, which libsndfile goes to for the length."""
        return ENDLESS_BYTES if self._is_at_end else super().tell()

    def _look(self) -> tuple[range, bool]:
        """Which bytes are the name of a header that is wrong; and whether none is right."""
        begin = self._skip_tags()
        head = os.pread(self.fileno(), 2 * XING_AT_MAX, begin).ljust(2 * XING_AT_MAX, b"\0")
        at = max(head.find(name, 0, XING_AT_MAX) for name in XING)
        if at < 0:
            return range(0), True
        flags, _frames, counted = struct.unpack_from(">III", head, at + len(XING[0]))
        rest = os.fstat(self.fileno()).st_size - begin - counted
        if flags & XING_COUNTS == XING_COUNTS and rest <= UNCOUNTED_BYTES_MAX:
            return range(0), False
        return range(begin + at, begin + at + len(XING[0])), True

    def _skip_tags(self) -> int:
        """Where the sound begins, as pictures and titles come first."""
        begin = 0
        for _ in range(TAGS_MAX):
            if (head := os.pread(self.fileno(), ID3_BYTES, begin))[:3] != b"ID3":
                break
            sizes = head.ljust(ID3_BYTES, b"\0")[6:]
            begin += ID3_BYTES + sum(n << s for n, s in zip(sizes, (21, 14, 7, 0), strict=True))
        return begin
