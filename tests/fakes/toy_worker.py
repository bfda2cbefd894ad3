"""The real model worker with the toy engine, for faults on request.

``$MOSHID_TEST_TOY`` is a folder. Each process takes the first line off ``faults`` there, if there
is one: ``FAULT STEP``, or ``load`` for a load that finds no memory; and writes to ``journal``.
"""

from __future__ import annotations

import os
from pathlib import Path

from moshid.errors import ModelOutOfMemory
from moshid.model import worker
from moshid.model.quantised_writer import Keep
from moshid.model.weights import Progress
from tests.fakes.toy_engine import ToyEngine


def load(
    _config: Path | None,
    _weights: Path,
    _tokenizer: Path,
    _quality: str,
    _progress: Progress,
    _keep: Keep | None,
) -> ToyEngine:
    """The toy, with the next fault of the plan."""
    folder = Path(os.environ["MOSHID_TEST_TOY"])
    plan = folder / "faults"
    lines = plan.read_text().splitlines() if plan.exists() else []
    first, *rest = lines or [""]
    plan.write_text("\n".join(rest))
    journal = (folder / "journal").open("a", buffering=1)
    if first == "load":
        raise ModelOutOfMemory("no room today")
    fault, _, at = (first or "none -1").partition(" ")
    return ToyEngine(fault, int(at), lambda line: print(line, file=journal))


if __name__ == "__main__":
    worker.serve(load)
