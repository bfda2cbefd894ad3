"""A command that gets Ctrl-C as it begins to load a module, early in its life."""

from __future__ import annotations

import sys


def command(entry: str, module: str, *words: str) -> list[str]:
    """``entry``'s ``main`` with these words; interrupted when ``module`` is looked for."""
    program = f"""
import signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from {entry} import main
sys.exit(main())
"""
    return [sys.executable, "-S", "-c", program, *words]
