"""The root of the error tree."""

from __future__ import annotations

from typing import Any, ClassVar, Final

MESSAGE_CHARS_MAX: Final = 2000
"""Of a message: it may quote what the caller sent, which may be a line's whole length."""


class MoshidError(Exception):
    """A failure with a kind, a hint and a place in the tree above."""

    kind: ClassVar[str] = "moshid.error"
    code: ClassVar[int] = -32000
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "See the daemon's log: moshi-client logs."

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        self.message = _bounded(message)
        super().__init__(self.message)
        self.hint = hint or self.default_hint
        self.facts = facts
        """JSON-ready details, merged into the error's data (for example a talk's owner)."""

    def to_data(self) -> dict[str, Any]:
        """The JSON-RPC ``data`` member: kind, hint, retryable and the facts."""
        return {"kind": self.kind, "hint": self.hint, "retryable": self.retryable, **self.facts}


def _bounded(text: str) -> str:
    """``text``, its middle left out if it is too long: both what is wrong and why stay."""
    half = MESSAGE_CHARS_MAX // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}[{left_out:,} more]{text[-half:]}" if left_out > 0 else text
