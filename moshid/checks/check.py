"""What a check is given and what it says. Owns the three verdicts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moshid.service.runner import Runner, SystemRunner
from moshid.settings import Settings

State = Literal["ok", "warn", "fail"]

PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One verdict: what was looked at, what was seen, what to do about it."""

    name: str
    state: State
    seen: str
    todo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the checks look at. Other programs, libraries with side effects too, run elsewhere."""

    settings: Settings
    platform: str = sys.platform
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    runner: Runner = field(default_factory=SystemRunner)

    def probe(self, program: str) -> dict[str, Any]:
        """Run a Python program in a process of its own; the last line it prints is JSON.

        Raises:
            ProbeFailed: it did not get that far.
        """
        ran = self.runner.run([sys.executable, "-c", program], timeout_s=PROBE_TIMEOUT_S)
        lines = ran.stdout.strip().splitlines()
        try:
            facts = json.loads(lines[-1]) if ran.ok and lines else None
        except ValueError:
            facts = None
        if not isinstance(facts, dict):
            raise ProbeFailed(ran.said.splitlines()[-1])
        return facts


class ProbeFailed(Exception):
    """A probe's process ended with an error; the text is its last line."""


Checker = Callable[[Machine], list[Check]]
