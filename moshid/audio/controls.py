"""Mute, push-to-talk, volume and pause: what a user sets while a talk runs, and what follows of it.

Pure, and without a sound library: the daemon knows them too. The model keeps hearing frames of the
same length, so a muted microphone costs it no time; see ``Session`` for what a pause leaves out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from moshid.audio.request import ControlChanges


class Controls(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a user can set, as it is now."""

    muted: bool = False
    push_to_talk: bool = False
    talking: bool = False
    volume: float = 1.0
    paused: bool = False

    @property
    def hears(self) -> bool:
        """Whether the microphone reaches the model."""
        return not self.muted and not self.paused and (self.talking or not self.push_to_talk)

    @property
    def input_gain(self) -> float:
        """Of the microphone, on its way to the model."""
        return float(self.hears)

    def changed(self, changes: ControlChanges) -> Controls:
        """As it is after ``changes``. Turning push-to-talk on begins with the key up."""
        given = {name: v for name, v in msgspec.structs.asdict(changes).items() if v is not None}
        if given.get("push_to_talk") and not self.push_to_talk:
            given = {"talking": False} | given
        return msgspec.structs.replace(self, **given)

    def to_changes(self) -> dict[str, Any]:
        """JSON-ready, for ``start`` of a process that takes over."""
        return msgspec.structs.asdict(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``hears``."""
        return msgspec.structs.asdict(self) | {"hears": self.hears}
