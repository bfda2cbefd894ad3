"""Whether the addresses that redirects lead to are good for one request each. Owns that guess."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SPENT_MAX: Final = 3
"""So many addresses in a row that are refused when they were just named, none of which was good
twice, are good for one request each."""


@dataclass(slots=True)
class Once:
    """By what became of one address after the other. What is known stays known."""

    is_so: bool = field(default=False, init=False)
    _spent: int = field(default=0, init=False)
    _gave: object = field(default=None, init=False)

    def gave(self, address: object) -> None:
        """It was good for a request."""
        if address is self._gave:
            self._spent = 0  # and it was before
        self._gave = address

    def refused(self) -> None:
        """One that had just been named was not."""
        self._spent += 1
        self.is_so = self.is_so or self._spent >= SPENT_MAX
