"""The link from hell, each fault alone and all together: who brings the file home, and how well.

``python -m tests.bench.bench_faults [--quick] [--mb N] [--only WHO ...] [--faults FAULT ...]
[--json FILE] [--beside FILE ...] [--picture FILE] [--page FILE]``. All meet the same faults, drawn
from the same seed. Goodput and what was sent twice are the link's own account
(``tests/fakes/hell_account.py`` defines both).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from tests.bench.fault_peers import OURS, PEERS, Run, contenders, run
from tests.bench.fault_tables import into_page, loss, matrix, table
from tests.fakes.hell_plan import ALONE, MB, Burst, Hell, together

TOGETHER: Final = "all together"


def plans(a: argparse.Namespace) -> dict[str, Hell]:
    """The links, by the fault's name."""
    found = {"none": Hell()} | dict(ALONE) | {TOGETHER: together(offline_s=a.offline_s)}
    spell = Burst(first_s=4.0, for_s=a.offline_s)
    found |= {"offline": Hell(offline=spell), "black hole": Hell(black_hole=spell)}
    scaled = {name: replace(h, capacity_bps=a.mb_s * MB) for name, h in found.items()}
    return {n: h for n, h in scaled.items() if not a.faults or n in a.faults}


def make_file(path: Path, mb: int) -> str:
    """Bytes that do not repeat; returns their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for seed in range(mb):
            piece = random.Random(seed).randbytes(MB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line: see ``--help``."""
    parser = argparse.ArgumentParser(prog="bench_faults", description=__doc__)
    parser.add_argument("--mb", type=int, default=300, help="the file's size")
    parser.add_argument("--mb-s", type=float, default=30.0, help="what the link carries")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--limit-s", type=float, default=90.0, help="of one run")
    parser.add_argument("--offline-s", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="60 MB, all together, 60 s a run")
    parser.add_argument("--only", nargs="*", help="whom: names, or the starts of names")
    parser.add_argument("--faults", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="SVG or PNG, of all faults together")
    parser.add_argument("--page", type=Path, help="put the tables into it, between its marks")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="earlier --json files")
    parser.add_argument("--show-only", action="store_true", help="run nothing, show --beside")
    a = parser.parse_args(argv)
    if a.quick:
        a.mb, a.limit_s, a.faults = 60, 60.0, a.faults or [TOGETHER]
    return a


def run_all(a: argparse.Namespace) -> list[Run]:
    """Everybody, through everything."""
    for who in (w for w in contenders() if w in PEERS):
        print(f"{who}: {PEERS[who].shown()}", file=sys.stderr)
    runs = []
    with tempfile.TemporaryDirectory(prefix="moshid-faults-") as folder:
        file = Path(folder) / "file"
        sha256 = make_file(file, a.mb)
        for fault, plan in plans(a).items():
            for seed, who in itertools.product(a.seeds, contenders()):
                if not a.only or any(who.startswith(o) for o in a.only):
                    seeded = replace(plan, seed=seed)
                    runs.append(run(who, fault, file, sha256, seeded, a.limit_s))
                    print(loss(runs[-1]), file=sys.stderr, flush=True)
                    if a.json:
                        write(a.json, a.mb, runs)
    return runs


def write(path: Path, mb: int, runs: Iterable[Run]) -> None:
    """All that is known, each request included."""
    path.write_text(json.dumps({"mb": mb, "runs": [asdict(r) for r in runs]}))


def main(argv: list[str] | None = None) -> int:
    """Run, print, write."""
    a = arguments(argv)
    runs = [] if a.show_only else run_all(a)
    for earlier in a.beside:
        runs += [Run(**r) for r in json.loads(earlier.read_text())["runs"]]
    faults, names = ["none", *ALONE, TOGETHER], [*OURS, *PEERS]
    runs.sort(key=lambda r: (faults.index(r.fault), r.seed, names.index(r.who)))
    shown = [matrix(runs), table([r for r in runs if r.fault == TOGETHER])]
    print("\n\n".join(shown))
    if a.page:
        into_page(a.page, shown)
    if a.picture:
        from tests.bench.fault_picture import draw

        draw([r for r in runs if r.fault == TOGETHER], a.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
