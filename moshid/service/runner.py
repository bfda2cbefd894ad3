"""The one seam through which other programs are run, so that tests can record instead."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. ``returncode`` is 127 when it is not there, 124 when out of time."""

    returncode: int
    stdout: str = ""
    stderr: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.returncode == 0

    @property
    def said(self) -> str:
        """What it said, stderr first, without line ends around it."""
        return self.stderr.strip() or self.stdout.strip() or f"exit status {self.returncode}"


class Runner(Protocol):
    """Finds and runs programs."""

    def which(self, program: str) -> str | None:
        """The program's path, if it is there."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Ran:
        """Run a program to its end; never raises for its failure."""


class SystemRunner:
    """Runs programs for real."""

    def which(self, program: str) -> str | None:
        """The program's path, if it is there."""
        return shutil.which(program)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Ran:
        """Run a program to its end; never raises for its failure."""
        try:
            done = subprocess.run(
                list(argv),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            return Ran(127, stderr=f"{argv[0]}: there is no such program")
        except OSError as e:
            return Ran(126, stderr=f"{argv[0]}: {e.strerror}")
        except subprocess.TimeoutExpired:
            return Ran(124, stderr=f"{argv[0]} did not end within {timeout_s:.0f} s")
        return Ran(done.returncode, done.stdout, done.stderr)


def shown(argv: Sequence[str]) -> str:
    """The command as one types it."""
    return shlex.join(argv)
