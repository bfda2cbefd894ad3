"""What befalls downloads in the soak: two daemons on one cache, kills, flipped bytes, a full disk,
deletions, another tool's downloads. Each deed leaves the cache free of anything unverified.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from moshi_client.errors import ClientError, RemoteError
from moshid.demo.home import World
from tests.fakes.aftermath import blobs_in, cache_faults, claims
from tests.fakes.hell_hub import NAME, REPO

FOLDER: Final = f"models--{REPO.replace('/', '--')}"
PROFILES: Final = ("auto", "verified", "robust", "parallel")
STATES_AT_REST: Final = ("done", "failed", "cancelled", "paused")
REFUSED: Final = frozenset({"download.wrong_state", "download.not_found", "download.no_such_job"})
HF_LIMIT_S: Final = 8.0
QUICK: Final = ("starts", "kills", "pauses", "resumes", "bytes flipped in partial files")
"""Deeds for a test that is to be short."""


class Second(World):
    """A daemon with a home of its own on the cache of another world."""

    def __init__(self, other: World) -> None:
        super().__init__()
        self.hf_cache = other.hf_cache
        self.env |= {k: other.env[k] for k in ("HF_HOME", "HF_ENDPOINT")}


class Deeds:
    """Does one deed after the other to ``worlds``, which share a cache; ``content``: the file's;
    ``names``: of the deeds, if not all are wanted."""

    def __init__(
        self,
        worlds: list[World],
        content: bytes,
        rng: random.Random,
        names: Collection[str] | None = None,
    ) -> None:
        self.worlds = worlds
        self.cache = worlds[0].hf_cache
        self.content = content
        self.rng = rng
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.flipped = False
        """A partial file was damaged behind the ledgers' backs since it was begun."""
        self._filler = self.cache / "filler"
        self._all: dict[str, tuple[int, Callable[[World], None]]] = {
            "starts": (6, self._start),
            "kills": (5, self._kill),
            "orderly restarts": (1, self._restart),
            "pauses": (2, self._pause),
            "resumes": (3, self._resume),
            "cancels": (1, self._cancel),
            "bytes flipped in partial files": (2, self._flip_partial),
            "bytes flipped in cached files": (2, self._flip_cached),
            "files deleted": (2, self._delete),
            "downloads by huggingface_hub": (1, self._other_tool),
        }
        if os.path.ismount(self.cache):
            self._all["full disks"] = (1, self._fill)
        if names is not None:
            self._all = {n: deed for n, deed in self._all.items() if n in names}

    def act(self) -> None:
        """One deed, drawn by lot, a while of peace, and a look at what is there."""
        names = list(self._all)
        name = self.rng.choices(names, [self._all[n][0] for n in names])[0]
        world = self.rng.choice(self.worlds)
        before = self.done[name]
        try:
            self._all[name][1](world)
        except RemoteError as e:
            if e.kind not in REFUSED:
                self.faults.append(f"{name}: {e.kind}: {e}")
        except (ClientError, OSError) as e:
            self.faults.append(f"{name}: {e!r}")
        if self.done[name] == before:
            self.done[f"{name}: there was nothing to do"] += 1
        time.sleep(self.rng.uniform(0.0, 0.4))  # the downloads' own time
        self.faults += [f"after {name}: {f}" for f in cache_faults(self.cache)]

    def jobs(self, world: World) -> list[dict[str, Any]]:
        """The daemon's jobs."""
        found: list[dict[str, Any]] = world.call("download.list")["jobs"]
        return found

    def come_to_rest(self, limit_s: float) -> None:
        """The file arrives at both homes, right, with no more than a start's help."""
        for world in self.worlds:
            self._wait_done(world, limit_s)
        self.faults += cache_faults(self.cache)
        blobs = [f.read_bytes() for f in blobs_in(self.cache)]
        if blobs != [self.content]:
            self.faults.append(f"{len(blobs)} blobs at the end, or another file than the Hub's")
        left = sorted(p.name for p in (self.cache / ".locks" / "moshid").iterdir())
        # A kill may leave the 40 bytes of a ref before its rename; a prune takes them a day later.
        self.faults += [f"left over: {n}" for n in left if not n.startswith("ref.")]

    def _wait_done(self, world: World, limit_s: float) -> None:
        give_up_s, job = time.monotonic() + limit_s, None
        while time.monotonic() < give_up_s:
            job = next(iter(self.jobs(world)), None)
            if job is None or job["state"] in STATES_AT_REST:
                if job is not None and job["state"] == "done" and self._blob() is not None:
                    return
                with contextlib.suppress(RemoteError):
                    world.call("download.start", {"repo": REPO, "files": [NAME]})
            time.sleep(0.2)
        self.faults.append(f"it does not arrive: {job}\n{world.daemon_log()}")

    def _blob(self) -> Path | None:
        return next(iter(blobs_in(self.cache)), None)

    def _partial(self) -> Path | None:
        return next(iter(sorted((self.cache / ".locks" / "moshid").glob("*.part"))), None)

    def _start(self, world: World) -> None:
        how: dict[str, Any] = {"repo": REPO, "files": [NAME], "profile": self.rng.choice(PROFILES)}
        if self.rng.random() < 0.5:
            how |= {"workers": self.rng.randint(1, 8), "chunk_bytes": self.rng.randint(1, 64) << 16}
        world.call("download.start", how)
        self.done["starts"] += 1

    def _kill(self, world: World) -> None:
        world.kill_daemon()
        self.done["kills"] += 1
        self._look_at_ledger(world)
        world.start_daemon()

    def _restart(self, world: World) -> None:
        code = world.stop_daemon()
        if code != 0:
            self.faults.append(f"the daemon ended with {code}")
        self.done["orderly restarts"] += 1
        self._look_at_ledger(world)
        world.start_daemon()

    def _look_at_ledger(self, world: World) -> None:
        """What the dead daemon's ledger claims is so, unless we, or the other home, were at it."""
        self.flipped &= self._partial() is not None
        partials = self.cache / ".locks" / "moshid"
        found = claims(world.home / "ledger.db", partials, self.content)
        if not self.flipped:
            self.faults += found.faults
            self.done["durable chunks compared"] += sum(
                c.durable_bytes > 0 for chunks in found.chunks.values() for c in chunks
            )

    def _pause(self, world: World) -> None:
        for job in self.jobs(world)[:1]:
            world.call("download.pause", {"id": job["id"]})
            self.done["pauses"] += 1

    def _resume(self, world: World) -> None:
        for job in self.jobs(world)[:1]:
            world.call("download.resume", {"id": job["id"]})
            self.done["resumes"] += 1

    def _cancel(self, world: World) -> None:
        for job in self.jobs(world)[:1]:
            world.call("download.cancel", {"id": job["id"]})
            self.done["cancels"] += 1

    def _flip_partial(self, world: World) -> None:
        """While nobody writes it: what is verified and about to be published is not partial."""
        world.kill_daemon()
        partial = self._partial()
        if partial is not None and partial.stat().st_size:
            with partial.open("r+b") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.flipped = True
                self._flip(partial, 3)
                self.done["bytes flipped in partial files"] += 1
        world.start_daemon()

    def _flip(self, path: Path, most: int) -> None:
        stat = path.stat()
        with path.open("r+b") as file:
            for _ in range(self.rng.randint(1, most)):
                at = self.rng.randrange(stat.st_size)
                os.pwrite(file.fileno(), bytes([os.pread(file.fileno(), 1, at)[0] ^ 1]), at)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def _flip_cached(self, world: World) -> None:
        blob, jobs = self._blob(), self.jobs(world)
        if blob is None or not jobs or jobs[0]["state"] != "done":
            return
        self._flip(blob, 3)
        report = world.call("download.verify", {"id": jobs[0]["id"], "repair": True})
        if not report["ok"]:
            self.faults.append(f"not repaired: {report}")
        self.done["bytes flipped in cached files"] += 1
        self.done["bytes repaired"] += report["repaired_bytes"]

    def _delete(self, _world: World) -> None:
        """As a user does, by hand."""
        if self._blob() is not None:
            shutil.rmtree(self.cache / FOLDER)
            self.flipped = False
            self.done["files deleted"] += 1

    def _other_tool(self, world: World) -> None:
        code = (
            "from huggingface_hub import hf_hub_download;"
            f"hf_hub_download({REPO!r}, {NAME!r}, etag_timeout=2)"
        )
        env = world.env | {"HF_HUB_DOWNLOAD_TIMEOUT": "2"}
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", code], env=env, capture_output=True,
                           timeout=HF_LIMIT_S, check=False)  # fmt: skip
        self.done["downloads by huggingface_hub"] += 1
        if (blob := self._blob()) is not None and blob.read_bytes() != self.content:
            self.done["files that huggingface_hub left wrong"] += 1
            blob.unlink()

    def _fill(self, _world: World) -> None:
        """For a second nobody has room."""
        with self._filler.open("wb") as file:
            stat = os.fstatvfs(file.fileno())
            if sys.platform == "linux":
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), 0, max(1, stat.f_bavail * stat.f_frsize))
        threading.Event().wait(1.0)
        self._filler.unlink()
        self.done["full disks"] += 1
