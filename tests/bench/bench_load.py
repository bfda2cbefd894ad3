"""How long loading takes, beside reading the file once from a cold disk, and what memory it takes.

``python -m tests.bench.bench_load [--gb N] [--rounds N] [--folder DIR] [--json FILE] [--picture
FILE] [--page FILE]``. Makes a random checkpoint, and deletes it at the end. Every run is a process
of its own; before each the file's pages are dropped from the page cache; raw reads (into one
buffer, and into as much new memory as a load needs) and load take turns, and the medians of the
rounds' ratios are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench import load_files

SEVEN_B_BYTES: Final = 15_375_697_208
PROMISE_S: Final = 30.0
READ_LIMIT: Final = 1.2
PEAK_LIMIT: Final = 1.15
MARKS: Final = ("<!-- load -->", "<!-- end of load -->")
_SAMPLE_S: Final = 0.02


@dataclass
class Row:
    """A kind of load: seconds of each round, raw (through one buffer; into memory of its own) and
    loaded."""

    name: str
    file_bytes: int
    raw_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)
    load_s: list[float] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of load and raw read, the median of the rounds."""
        return _ratio(self.load_s, self.raw_s)

    @property
    def own_ratio(self) -> float:
        """Of load and raw read into memory of its own."""
        return _ratio(self.load_s, self.own_s)

    def read_raw(self, path: Path) -> None:
        """One round of both raw reads of ``path``."""
        self.raw_s.append(child("raw", path)["seconds"])
        self.own_s.append(child("own", path)["seconds"])

    def told(self) -> str:
        """The last round."""
        raw_s, own_s, load_s = self.raw_s[-1], self.own_s[-1], self.load_s[-1]
        return f"  {self.name}: raw {raw_s:.2f} s, own {own_s:.2f} s, load {load_s:.2f} s"


def _ratio(load_s: list[float], raw_s: list[float]) -> float:
    return statistics.median(load / raw for load, raw in zip(load_s, raw_s, strict=True))


@dataclass
class Curve:
    """Resident memory of a child above its imports', over time."""

    seconds: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


def drop_cache(path: Path) -> None:
    """The file's pages out of the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    if sys.platform == "linux":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def child(
    what: str,
    path: Path,
    quality: str = "bf16",
    store: Path | None = None,
    curve: Curve | None = None,
) -> dict[str, Any]:
    """One cold run in a process of its own."""
    drop_cache(path)
    command = [sys.executable, "-m", "tests.bench.load_child", what, str(path)]
    command += [str(path.with_name("config.json")), quality, str(store or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(json.loads(line))
            if curve is not None and "began" in lines[-1]:
                begin = lines[-1]
                threading.Thread(target=_watch, args=(process.pid, begin, curve)).start()
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    result: dict[str, Any] = lines[-1]
    return result


def _watch(pid: int, begin: dict[str, Any], curve: Curve) -> None:
    """Follow a child's memory until it ends."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    while True:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        if pages == 0:
            return
        curve.seconds.append(time.monotonic() - begin["began"])
        curve.rss_bytes.append(pages * page_bytes - begin["before_bytes"])
        time.sleep(_SAMPLE_S)


def alternate(name: str, path: Path, quality: str, rounds: int, what: str = "load") -> Row:
    """Raw read and load of ``path`` by turns."""
    row = Row(name, path.stat().st_size)
    for _ in range(rounds):
        row.read_raw(path)
        result = child(what, path, quality)
        row.load_s.append(result["seconds"])
        row.results.append(result)
        print(row.told(), file=sys.stderr)
    return row


def beside_mx_load(weights: Path, rounds: int) -> list[Row]:
    """bf16 by ours and by plain ``mx.load``, a raw read before each, all by turns."""
    ours, plain = Row("bf16", 0), Row("bf16 by plain mx.load", 0)
    for _ in range(rounds):
        for row, what in ((ours, "load"), (plain, "mx.load")):
            once = alternate(row.name, weights, "bf16", 1, what)
            row.file_bytes = once.file_bytes
            row.raw_s += once.raw_s
            row.own_s += once.own_s
            row.load_s += once.load_s
            row.results += once.results
    return [ours, plain]


def from_copy(weights: Path, copy: Path, store: Path, quality: str, rounds: int) -> Row:
    """Raw read of the copy, and the load that uses it."""
    row = Row(f"{quality}, quantised by an earlier load", copy.stat().st_size)
    for _ in range(rounds):
        row.read_raw(copy)
        drop_cache(copy)
        result = child("load", weights, quality, store)
        assert result["how"] == "copy", result
        row.load_s.append(result["seconds"])
        row.results.append(result)
        print(row.told(), file=sys.stderr)
    return row


def measure(a: argparse.Namespace, folder: Path) -> tuple[list[Row], dict[str, Curve], list[str]]:
    """Everything, in order."""
    print(f"making {a.gb} GB in {folder}", file=sys.stderr)
    weights = load_files.write(folder / "model", a.gb)
    child("load", weights)  # not counted: the machine has just written the file
    rows = beside_mx_load(weights, a.rounds)
    curves: dict[str, Curve] = {}
    notes: list[str] = []
    for quality in ("q8", "q4"):
        ready_made = load_files.write_quantised(weights, quality)
        rows.append(alternate(f"{quality}, pre-quantised", ready_made, quality, a.rounds))
        ready_made.unlink()
        store = folder / f"store-{quality}"
        curves[quality] = Curve()
        row = Row(f"{quality}, quantised at load", weights.stat().st_size)
        row.read_raw(weights)
        result = child("load", weights, quality, store, curves[quality])
        row.load_s.append(result["seconds"])
        row.results.append(result)
        rows.append(row)
        print(f"  {row.name}: {result}", file=sys.stderr)
        rows.append(from_copy(weights, Path(result["copy"]["path"]), store, quality, a.rounds))
        shutil.rmtree(store)
    touched_s = [child("touch", weights)["seconds"] for _ in range(a.rounds)]
    notes.append(
        f"touching each page of {rows[0].file_bytes / 1e9:.1f} GB of new memory takes this machine "
        f"{statistics.median(touched_s):.2f} s of one core; {os.cpu_count()} cores, the load of "
        f"the last minute {os.getloadavg()[0]:.1f}"
    )
    notes.append(promise(rows[0], child("ready", weights)))
    notes.append(whole(child("ready", weights, "q4", folder / "store")))
    return rows, curves, notes


def promise(bf16: Row, ready: dict[str, Any]) -> str:
    """From local files to ready, scaled to the 7B."""
    load_s, raw_s = statistics.median(bf16.load_s), statistics.median(bf16.raw_s)
    besides_s = max(0.0, ready["load_s"] - load_s)
    scaled_s = load_s * SEVEN_B_BYTES / bf16.file_bytes + besides_s + ready["warm_up_s"]
    disk_bps = SEVEN_B_BYTES / (PROMISE_S - besides_s - ready["warm_up_s"]) * bf16.ratio
    return (
        f"from local files to ready: the {bf16.file_bytes / 1e9:.1f} GB of bf16 here load in "
        f"{load_s:.1f} s (the disk gives {bf16.file_bytes / raw_s / 1e9:.1f} GB/s), with "
        f"{besides_s:.1f} s besides and {ready['warm_up_s']:.1f} s of warm-up; scaled, the 15.4 GB "
        f"of the 7B are ready in {scaled_s:.1f} s; {PROMISE_S:.0f} are promised, which holds from "
        f"a disk of {disk_bps / 1e9:.2f} GB/s on"
    )


def whole(ready: dict[str, Any]) -> str:
    """A quantising load to its end."""
    return (
        f"bf16 to q4: ready in {ready['seconds']:.1f} s, at most "
        f"{ready['peak_bytes'] / 1e9:.2f} GB on the way to {ready['memory_bytes'] / 1e9:.2f} GB "
        "(on a CPU scales and biases become float32, and steps take memory of their own)"
    )


def table(rows: list[Row]) -> str:
    """One line a kind of load."""
    lines = [
        "| weights | file GB | raw s | own s | load s | load / raw | load / own | peak GB "
        "| model GB | peak / model |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        raw_s, own_s, load_s = map(statistics.median, (r.raw_s, r.own_s, r.load_s))
        peak = statistics.median(x["peak_bytes"] for x in r.results)
        model = r.results[0]["model_bytes"]
        lines.append(
            f"| {r.name} | {r.file_bytes / 1e9:.2f} | {raw_s:.2f} | {own_s:.2f} | {load_s:.2f} "
            f"| {r.ratio:.2f} | {r.own_ratio:.2f} | {peak / 1e9:.2f} | {model / 1e9:.2f} "
            f"| {peak / model:.2f} |"
        )
    return "\n".join(lines)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line: see ``--help``."""
    parser = argparse.ArgumentParser(prog="bench_load", description=__doc__)
    parser.add_argument("--gb", type=float, default=3.0, help="of bf16 weights, at least")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="PNG or SVG: memory over time")
    parser.add_argument("--page", type=Path, help="put the table into it, between its marks")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run, print, write."""
    a = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="moshid-load-", dir=a.folder) as folder:
        rows, curves, notes = measure(a, Path(folder))
    shown = "\n\n".join([table(rows), *notes])
    print(shown)
    if a.json:
        a.json.write_text(json.dumps({"rows": [vars(r) for r in rows], "notes": notes}, indent=1))
    if a.page:
        before, _, rest = a.page.read_text().partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        a.page.write_text(f"{before}{MARKS[0]}\n\n{shown}\n\n{MARKS[1]}{after}")
    if a.picture:
        from tests.bench.load_picture import draw

        draw(curves, rows, a.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
