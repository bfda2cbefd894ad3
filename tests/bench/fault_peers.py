"""Who is run through the link from hell, and how: each as a careful user would call it.

Owns the commands and one run of one of them: its end, its time, the digest of what it left, and its
progress as seen from outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from moshid.demo.home import World
from tests.fakes.hell_hub import NAME, REPO
from tests.fakes.hell_plan import Hell
from tests.fakes.hell_server import HellProcess, hell

POLL_S: Final = 0.1
ROOT: Final = Path(__file__).parents[2]
NEWEST: Final = ROOT / ".cache/newest-hub/bin/python"
"""A Python with the newest huggingface_hub, which ``make tests`` sets up."""

_HUB: Final = """
import sys, time
from huggingface_hub import hf_hub_download
while True:
    try:
        print(hf_hub_download(sys.argv[1], sys.argv[2], cache_dir=sys.argv[3]))
        break
    except Exception as e:
        print(type(e).__name__, e, file=sys.stderr)
        time.sleep(1)
"""
_HF_TRANSFER: Final = """
import sys, time, hf_transfer, requests
while True:
    try:
        url = requests.head(sys.argv[1], timeout=10).headers["Location"]
        hf_transfer.download(url, sys.argv[2], max_files=8, chunk_size=10 << 20,
                             parallel_failures=3, max_retries=5)
        break
    except Exception as e:
        print(type(e).__name__, e, file=sys.stderr)
        time.sleep(1)
"""
OURS: Final = ("moshid auto", "moshid robust", "moshid verified", "moshid parallel")


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``digest``: "right", "wrong", or "none" if it left no whole file; ``progress``:
    seconds and bytes there, as it says or as its files show; ``account``: the link's own."""

    who: str
    fault: str
    seed: int
    finished: bool
    wall_s: float
    digest: str
    retries: int | None
    progress: list[tuple[float, int]]
    account: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program by its command; ``{url}``, ``{endpoint}``, ``{folder}`` and ``{sha256}`` stand for
    what they say. It leaves the file ``out``, or the cache of the Hub, in its folder."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""

    def there(self) -> bool:
        """Whether it can be run here."""
        return shutil.which(self.needs or self.command[0]) is not None

    def shown(self) -> str:
        """As one would type it."""
        env = [f"{k}={v}" for k, v in self.env.items()]
        command = [c if "import" not in c else "LOOP" for c in self.command]
        if command[:2] == ["sh", "-c"]:
            return command[2]
        return " ".join(
            [*env, *(shlex.quote(c).replace(sys.executable, "python") for c in command)]
        )


def _until(command: str) -> list[str]:
    return ["sh", "-c", f"until {command}; do sleep 1; done"]


def _hub(python: str, transfer: str) -> Peer:
    env = {"HF_ENDPOINT": "{endpoint}", "HF_HUB_ENABLE_HF_TRANSFER": transfer}
    env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    return Peer([python, "-c", _HUB, REPO, NAME, "{folder}"], env)


PEERS: Final[Mapping[str, Peer]] = {
    "curl in a loop": Peer(
        _until(
            "curl -fsSL -C - --speed-limit 1000 --speed-time 5 -o '{folder}/out' '{url}'",
        ),
        needs="curl",
    ),
    "curl --retry": Peer(
        _until(
            "curl -fsSL --retry 999 --retry-all-errors --retry-delay 1 -C - "
            "--speed-limit 1000 --speed-time 10 -o '{folder}/out' '{url}'"
        ),
        needs="curl",
    ),
    "aria2c -x16": Peer(
        _until(
            "aria2c -q -x16 -s16 -k1M -m0 --retry-wait=1 --timeout=10 --lowest-speed-limit=1K "
            "--file-allocation=none --checksum=sha-256={sha256} -d '{folder}' -o out '{url}'"
        ),
        needs="aria2c",
    ),
    "hf-transfer": Peer([sys.executable, "-c", _HF_TRANSFER, "{url}", "{folder}/out"]),
    "huggingface_hub 0.28": _hub(sys.executable, "0"),
    "huggingface_hub 0.28 + hf-transfer": _hub(sys.executable, "1"),
    "huggingface_hub newest": _hub(str(NEWEST), "0"),
}


def contenders() -> list[str]:
    """All who can be run here."""
    return [*OURS, *(w for w, p in PEERS.items() if p.there())]


def run(who: str, fault: str, file: Path, sha256: str, plan: Hell, limit_s: float) -> Run:
    """Let one of them fetch ``file`` over such a link, for no longer than that."""
    with hell(file, plan) as link:
        if who in OURS:
            return _ours(who, fault, sha256, plan, limit_s, link)
        with tempfile.TemporaryDirectory(prefix="moshid-faults-") as folder:
            return _theirs(who, fault, sha256, plan, limit_s, link, Path(folder))


def _ours(who: str, fault: str, sha256: str, plan: Hell, limit_s: float, link: HellProcess) -> Run:
    with World() as world:
        world.env["HF_ENDPOINT"] = link.endpoint
        world.start_daemon()
        began, progress = time.monotonic(), list[tuple[float, int]]()
        params = {"repo": REPO, "files": [NAME], "profile": who.removeprefix("moshid ")}
        with world.connect() as connection:
            job = connection.call("download.start", params)["job"]
            while (wall_s := time.monotonic() - began) < limit_s:
                job = connection.call("download.get", {"id": job["id"]})["job"]
                progress.append((round(wall_s, 2), job["bytes_done"]))
                if job["state"] in ("done", "failed", "cancelled"):
                    break
                time.sleep(POLL_S)
        found = _digest(world.hf_cache.rglob(f"snapshots/*/{NAME}"), sha256)
        done, retries = job["state"] == "done", job["retries"]
        account = link.report() | {"job": {k: v for k, v in job.items() if k != "files"}}
        return Run(who, fault, plan.seed, done, wall_s, found, retries, progress, account)


def _theirs(
    who: str, fault: str, sha256: str, plan: Hell, limit_s: float, link: HellProcess, folder: Path
) -> Run:
    peer = PEERS[who]
    told = {
        "url": f"{link.endpoint}/{REPO}/resolve/main/{NAME}",
        "endpoint": link.endpoint,
        "folder": str(folder),
        "sha256": sha256,
    }
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {k: v.format(**told) for k, v in peer.env.items()}
    command = [c.format(**told) for c in peer.command]
    began, progress, code = time.monotonic(), list[tuple[float, int]](), None
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        while (wall_s := time.monotonic() - began) < limit_s:
            progress.append((round(wall_s, 2), _bytes_in(folder)))
            if (code := process.poll()) is not None:
                break
            time.sleep(POLL_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    outs = [folder / "out", *folder.rglob(f"snapshots/*/{NAME}")]
    found = _digest(outs, sha256) if code == 0 else "none"
    return Run(who, fault, plan.seed, code == 0, wall_s, found, None, progress, link.report())


def _digest(paths: Any, sha256: str) -> str:
    for path in paths:
        if path.is_file():
            with path.open("rb") as f:
                right = hashlib.file_digest(f, "sha256").hexdigest() == sha256
            return "right" if right else "wrong"
    return "none"


def _bytes_in(folder: Path) -> int:
    """What has been written there; holes do not count."""
    count = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink():
                count += path.stat().st_blocks * 512
    return count
