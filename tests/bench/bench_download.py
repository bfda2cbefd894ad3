"""Speed, CPU seconds and memory of a download from loopback, beside curl, aria2c and hf-transfer.

``python -m tests.bench.bench_download [--mib N] [--rounds N] [--json FILE] [--page FILE]``. All
fetch the same file from the same nginx, in turns. moshid's figure includes all it promises: each
chunk's digest, the whole file's, everything durable and in the ledger. ``hf+sha256`` is the same
promise made by hf-transfer, fdatasync and one pass of hashlib; ``aria2c+sha256`` checks the whole
file's digest, too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

from moshid.demo.home import World

MIB: Final = 1 << 20
COMMIT: Final = "b" * 40
REPO: Final = "bench/one"
NAME: Final = "model.safetensors"

_HF_TRANSFER: Final = """
import hashlib, os, sys, hf_transfer
url, out, check = sys.argv[1:]
hf_transfer.download(url, out, max_files=8, chunk_size=8 << 20)
if check == "1":
    with open(out, "rb") as f:
        os.fdatasync(f.fileno())
        hashlib.file_digest(f, "sha256")
"""


_HUB: Final = """
import os, sys
os.environ.update(HF_ENDPOINT=sys.argv[1], HF_HUB_CACHE=sys.argv[2], HF_HUB_DISABLE_TELEMETRY="1")
from huggingface_hub import hf_hub_download
hf_hub_download(sys.argv[3], sys.argv[4])
"""

ASK_EVERY_S: Final = 0.02
"""A client that asks for the list of jobs so often: far more than a terminal UI does. (Each answer
is work for the two cores, too, which nobody asks of the peers: so many make the download a
twenty-fifth slower, 200 a second a tenth. Fewer give too few for a 99th percentile.)"""

UP_S: Final = 1.5
"""The daemon has been up for a while: it has made its spare audio process."""

MARKS: Final = ("<!-- speed -->", "<!-- end of speed -->")


@dataclass(frozen=True, slots=True)
class Figure:
    """One download: who, wall and CPU seconds, peak memory, how long each RPC call beside it took,
    in milliseconds."""

    who: str
    wall_s: float
    cpu_s: float
    peak_mib: float
    rpc_ms: list[float] = field(default_factory=list)


@contextlib.contextmanager
def serving(folder: Path, sha256: str, port: int) -> Iterator[str]:
    """An nginx that serves the file by itself and as a Hub would; its endpoint."""
    temps = "".join(
        f"{t}_temp_path {folder}/{t};" for t in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    size = (folder / NAME).stat().st_size
    told = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": sha256, "X-Linked-Size": size}
    hub = " ".join(f"add_header {name} {value} always;" for name, value in told.items())
    configuration = f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; {temps}
server {{ listen 127.0.0.1:{port};
location /raw/ {{ alias {folder}/; }}
location /{REPO}/resolve/ {{ {hub} return 302 /raw/{NAME}; }} }} }}
"""
    (folder / "nginx.conf").write_text(configuration)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        curl = ["curl", "-sf", "--retry-connrefused", "--retry", "20", "--retry-delay", "0"]
        subprocess.run([*curl, "-r", "0-0", "-o", os.devnull, f"{endpoint}/raw/{NAME}"], check=True)
        yield endpoint
    finally:
        process.terminate()
        process.wait()


def peer(who: str, command: list[str], out: Path) -> Figure:
    """Run a peer to its end; what it wrote is removed."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{who} ended with {process.returncode}")
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return Figure(who, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def ours(endpoint: str, profile: str) -> Figure:
    """A download through a daemon of its own, from its start to done."""
    with World() as world:
        world.env["HF_ENDPOINT"] = endpoint
        world.start_daemon()
        time.sleep(UP_S)
        process = psutil.Process(world.daemon_pid)
        before, began = process.cpu_times(), time.monotonic()
        done = threading.Event()
        delays_s: list[float] = []
        asking = threading.Thread(target=_ask, args=(world, done, delays_s))
        asking.start()
        params = {"repo": REPO, "files": [NAME], "profile": profile, "wait": True}
        job = world.call("download.start", params)["job"]
        wall_s, after = time.monotonic() - began, process.cpu_times()
        done.set()
        asking.join()
        if job["state"] != "done":
            raise SystemExit(f"moshid: {job['state']}, {job['error']}")
        cpu_s = after.user + after.system - before.user - before.system
        rpc_ms = [round(1000 * s, 1) for s in delays_s]
        return Figure(f"moshid {profile}", wall_s, cpu_s, _peak_mib(process), rpc_ms)


def _ask(world: World, done: threading.Event, delays_s: list[float]) -> None:
    with world.connect() as connection:
        while not done.wait(ASK_EVERY_S):
            began = time.monotonic()
            connection.call("download.list")
            delays_s.append(time.monotonic() - began)


def _peak_mib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float(process.memory_info().rss) / MIB
    lines = status.read_text().splitlines()
    return int(next(s for s in lines if s.startswith("VmHWM")).split()[1]) / 1024


def contenders(endpoint: str, folder: Path, sha256: str) -> dict[str, Callable[[], Figure]]:
    """Who is there, by name."""
    url, out = f"{endpoint}/raw/{NAME}", folder / "out"
    hf = [sys.executable, "-c", _HF_TRANSFER, url, str(out)]
    aria = ["aria2c", "-q", "-x16", "-s16", "-k1M", "-d", str(folder)]
    hub = [sys.executable, "-c", _HUB, endpoint, str(out), REPO, NAME]
    commands = {
        "curl": ["curl", "-sf", "-o", str(out), url],
        "aria2c -x16": [*aria, "-o", "out", url],
        "aria2c+sha256": [*aria, f"--checksum=sha-256={sha256}", "-o", "out", url],
        "huggingface_hub": hub,
        "hf-transfer": [*hf, "0"],
        "hf+sha256": [*hf, "1"],
    }
    there = {w: c for w, c in commands.items() if shutil.which(c[0])}
    peers = {w: _later(w, command, out) for w, command in there.items()}
    profiles = ("auto", "parallel")
    return peers | {f"moshid {p}": lambda p=p: ours(endpoint, p) for p in profiles}


def _later(who: str, command: list[str], out: Path) -> Callable[[], Figure]:
    return lambda: peer(who, command, out)


def table(figures: list[Figure], size_bytes: int) -> str:
    """The medians, one line each."""
    gb = size_bytes / 1e9
    lines = [
        "| who | wall s | GB/s | CPU s per GB | peak MiB | RPC p50, p99, most ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for who in dict.fromkeys(f.who for f in figures):
        mine = [f for f in figures if f.who == who]
        wall_s = statistics.median(f.wall_s for f in mine)
        cpu_s = statistics.median(f.cpu_s for f in mine)
        peak = max(f.peak_mib for f in mine)
        rate, rpc = gb / wall_s, _spread([ms for f in mine for ms in f.rpc_ms])
        lines.append(
            f"| {who} | {wall_s:.2f} | {rate:.2f} | {cpu_s / gb:.2f} | {peak:.0f} | {rpc} |"
        )
    return "\n".join(lines)


def _spread(rpc_ms: list[float]) -> str:
    """Of the calls of all rounds: one has no more than a hundred, too few for a 99th percentile."""
    if len(rpc_ms) < 2:
        return ""
    cuts = statistics.quantiles(rpc_ms, n=100)
    return f"{cuts[49]:.1f}, {cuts[98]:.1f}, {max(rpc_ms):.0f}"


def ratios(figures: list[Figure]) -> str:
    """How long moshid takes beside those that the issue names, round by round; medians."""
    lines = []
    for who in (w for w in dict.fromkeys(f.who for f in figures) if w.startswith("moshid")):
        for other in ("hf+sha256", "hf-transfer", "aria2c -x16", "aria2c+sha256"):
            pairs = zip(_walls(figures, who), _walls(figures, other), strict=False)
            if parts := [mine / theirs for mine, theirs in pairs]:
                lines.append(f"- {who} takes {statistics.median(parts):.2f} of {other}'s time")
    return "\n".join(lines)


def _walls(figures: list[Figure], who: str) -> list[float]:
    return [f.wall_s for f in figures if f.who == who]


def write_page(page: Path, text: str) -> None:
    """Put the text between the marks of a page."""
    before, rest = page.read_text().split(MARKS[0])
    _old, after = rest.split(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def main(argv: list[str] | None = None) -> int:
    """The command line: see ``--help``."""
    parser = argparse.ArgumentParser(prog="bench_download", description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=18_931)
    parser.add_argument("--only", nargs="+", help="names of contenders")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a page with marks for the table")
    a = parser.parse_args(argv)
    if shutil.which("nginx") is None:
        parser.error("nginx is needed (Debian: apt install nginx-light)")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="moshid-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers are another user
        digest = hashlib.sha256()
        with (folder / NAME).open("wb") as file:
            for seed in range(a.mib):
                piece = random.Random(seed).randbytes(MIB)
                digest.update(piece)
                file.write(piece)
        with serving(folder, digest.hexdigest(), a.port) as endpoint:
            for _round in range(a.rounds):
                for who, run in contenders(endpoint, folder, digest.hexdigest()).items():
                    if not a.only or who in a.only:
                        figures.append(run())
                        print(f"{who}: {figures[-1].wall_s:.2f} s", file=sys.stderr, flush=True)
    text = f"{table(figures, a.mib * MIB)}\n\n{ratios(figures)}"
    print(text)
    if a.page:
        write_page(a.page, text)
    if a.json:
        a.json.write_text(
            json.dumps({"mib": a.mib, "runs": [asdict(f) for f in figures]}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
