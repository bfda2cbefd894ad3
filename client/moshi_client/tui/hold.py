"""Push-to-talk by a key whose release no terminal tells. Pure: takes times, tells what holds.

A held key repeats: so as long as it repeats it is held, and a little after that it is released. A
key that is only tapped (or does not repeat at all) stays on until the next tap.

::

    OFF ─press─► PRESSED ─repeat─► HELD ─no repeat─► OFF
                    └─no repeat──► LATCHED ─press─► RELEASED ─no repeat─► OFF
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

FIRST_REPEAT_S = 0.9
"""A held key repeats within this time: systems begin after 0.25 to 0.7 s."""

NEXT_REPEAT_S = 0.3
"""After that, each time within this: 30 a second is usual, a slow line bunches them."""


class Phase(Enum):
    """What is known of the key."""

    OFF = "off"
    PRESSED = "pressed"
    HELD = "held"
    LATCHED = "latched"
    RELEASED = "released"


@dataclass(frozen=True)
class Hold:
    """The key, as last heard of ``at_s``; ``repeated``: it repeats, so the next one comes soon."""

    phase: Phase = Phase.OFF
    at_s: float = 0.0
    repeated: bool = False

    @property
    def talking(self) -> bool:
        """Whether the user talks."""
        return self.phase in (Phase.PRESSED, Phase.HELD, Phase.LATCHED)

    @property
    def deadline_s(self) -> float | None:
        """When silence of the key will mean something."""
        if self.phase in (Phase.OFF, Phase.LATCHED):
            return None
        return self.at_s + (NEXT_REPEAT_S if self.repeated else FIRST_REPEAT_S)

    def press(self, now_s: float) -> Hold:
        """The key came in: a press or a repeat."""
        now = self.passed(now_s)
        if now.phase is Phase.OFF:
            return Hold(Phase.PRESSED, now_s)
        if now.phase is Phase.LATCHED:
            return Hold(Phase.RELEASED, now_s)
        phase = Phase.RELEASED if now.phase is Phase.RELEASED else Phase.HELD
        return Hold(phase, now_s, repeated=True)

    def passed(self, now_s: float) -> Hold:
        """What is so at ``now_s``, if no key came in."""
        if self.deadline_s is None or now_s < self.deadline_s:
            return self
        latched = self.phase is Phase.PRESSED
        return replace(self, phase=Phase.LATCHED if latched else Phase.OFF, repeated=False)
