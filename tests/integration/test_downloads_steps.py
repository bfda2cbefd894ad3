"""SIGKILL and power cuts right before and after every step: what the ledger calls durable is on
disk, nothing unverified is in the cache, and the job ends right by itself.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.plan import bytes_done
from tests.fakes.aftermath import cache_faults, claims, cut_power
from tests.fakes.fault_hub import Fault, FaultHub
from tests.fakes.kill_child import KILLED, Nursery, Order, told
from tests.fakes.repos import make_repo
from tests.fakes.tripwire import SEAMS, Wire
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 1_500_001
CHUNK = 256 * 1024
SMALL_FILES_BYTES = 8_000
DURABLE = ("Partial.write", "Partial.sync", "Ledger.record", "Cache.publish")
"""The order that makes the ledger true."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is downloaded, and what is wrong with it: ``faults`` of the line's first GETs; with
    ``damaged``, the cache holds the weights already, but for some bytes."""

    name: str
    faults: tuple[Fault, ...] = ()
    damaged: bool = False

    @asynccontextmanager
    async def hub(self, folder: Path) -> AsyncIterator[DemoHub]:
        """The Hub of this scene; its repository, and what the cache holds before."""
        weights = (make_repo(folder / "hub", SIZE) / WEIGHTS).read_bytes()
        if self.damaged:
            blobs = folder / "cache" / "models--org--parrot" / "blobs"
            blobs.mkdir(parents=True)
            (blobs / sha256(weights).hexdigest()).write_bytes(_damage(weights))
        async with FaultHub(folder / "hub", self.faults) as hub:
            yield hub


@dataclass(frozen=True, slots=True)
class Chain:
    """Lives that end at ``wires``, one after the other; with ``power_cut``, each by one."""

    wires: tuple[Wire, ...]
    power_cut: bool


def _damage(weights: bytes) -> bytes:
    return weights[: CHUNK + 5] + bytes([weights[CHUNK + 5] ^ 1]) + weights[CHUNK + 6 :]


PLAIN = Scene("plain")
FLIPPED = Scene("wrong on arrival", faults=(Fault.NONE, Fault.NONE, Fault.NONE, Fault.FLIPPED))
DAMAGED = Scene("damaged in the cache", damaged=True)
SCENES = (PLAIN, FLIPPED, DAMAGED)


def order_in(folder: Path, hub: DemoHub) -> Order:
    """A life below ``folder``."""
    home, cache = folder / "home", folder / "cache"
    home.mkdir(parents=True, exist_ok=True)
    return Order(home=str(home), endpoint=hub.endpoint, cache=str(cache), chunk_bytes=CHUNK)


async def steps_of(scene: Scene, folder: Path, nursery: Nursery) -> Counter[str]:
    """How often each step is taken in a life that nobody ends."""
    async with scene.hub(folder) as hub:
        order = order_in(folder, hub)
        assert await asyncio.to_thread(nursery.live, order) == 0
        left = told(order)
    assert left["job"]["state"] == "done"
    return Counter(left["steps"])


async def killed_and_lived_on(
    scene: Scene, chain: Chain, folder: Path, nursery: Nursery, rng: random.Random
) -> Counter[str]:
    """Lives that end at the wires one after the other, and one that is left alone; returns what
    was done to them."""
    done: Counter[str] = Counter()
    async with scene.hub(folder) as hub:
        order = order_in(folder, hub)
        for wire in chain.wires:
            order = replace(order, wire=wire)
            code = await asyncio.to_thread(nursery.live, order)
            assert code in (KILLED, 0), f"{wire}: exit code {code}"
            done["kills"] += code == KILLED
            if code == KILLED and chain.power_cut:
                order = replace(order, boot_id=f"{order.boot_id}+")
                done["power cuts"] += 1
                ledger = Path(order.home) / "ledger.db"
                done += await asyncio.to_thread(cut_power, order.journal, ledger, rng)
            held_bytes = await asyncio.to_thread(assert_nothing_false, folder, str(chain))
        sent_bytes = hub.line.sent_bytes
        last = replace(order, wire=None, watch=False)
        assert await asyncio.to_thread(nursery.live, last) == 0
        job = told(last)["job"]
        assert (job["state"], job["error"]) == ("done", None), chain
        if scene is PLAIN:
            again_bytes = hub.line.sent_bytes - sent_bytes
            # On a busy machine a line may look stalled, and another be asked for the same chunk.
            missing_bytes = SIZE - held_bytes + SMALL_FILES_BYTES
            twice_bytes = min(SIZE, job["bytes_refetched"]) + CHUNK * job["retries"]
            assert again_bytes <= missing_bytes + twice_bytes, f"{chain}: too much again, {job}"
    await asyncio.to_thread(assert_nothing_false, folder, f"the end after {chain}", over=True)
    repo, cache = folder / "hub" / "org" / "parrot", folder / "cache"
    assert_in_cache(repo, cache, WEIGHTS, "config.json", "tokenizer.model")
    return done


def assert_nothing_false(folder: Path, when: str, *, over: bool = False) -> int:
    """Ledger, partial files and cache agree; returns how many bytes of the weights are held.
    ``over``: what another tool had left damaged is mended."""
    cache = folder / "cache"
    weights = (folder / "hub" / "org" / "parrot" / WEIGHTS).read_bytes()
    found = claims(folder / "home" / "ledger.db", cache / ".locks" / "moshid")
    known = None if over else _damage(weights)
    assert (found.faults, cache_faults(cache, known)) == ([], []), when
    etag = sha256(weights).hexdigest()
    blob = cache / "models--org--parrot" / "blobs" / etag
    return SIZE if blob.exists() else bytes_done(found.chunks.get(etag, []))


def choose_chains(steps: Counter[str], rng: random.Random) -> list[Chain]:
    """For each step one chain that begins with a kill at it, and may go on with others; for the
    steps that make bytes durable a power cut right before and right after. And a start that is cut
    short: the job is entered, but not what it is to fetch."""
    chains = [Chain((Wire("Ledger.add_want", 1, before=True),), power_cut=False)]
    for step, count in sorted(steps.items()):
        wires = [Wire(step, rng.randint(1, count), rng.random() < 0.5)]
        while rng.random() < 0.1:
            other = rng.choice(sorted(steps))
            wires.append(Wire(other, rng.randint(1, steps[other]), rng.random() < 0.5))
        chains.append(Chain(tuple(wires), power_cut=rng.random() < 0.5))
    for step in DURABLE:
        for before in (True, False):
            wire = Wire(step, rng.randint(1, steps[step]), before)
            chains.append(Chain((wire,), power_cut=True))
    return chains


async def test_kills_at_every_step(tmp_path: Path) -> None:
    """All, in all scenes: ``python -m tests.bench.soak_downloads --steps --seconds 9999``."""
    seed = 1
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    rng = random.Random(seed)
    with Nursery() as first, Nursery() as second:
        steps = await steps_of(PLAIN, tmp_path / "census", first)
        assert steps.keys() >= SEAMS | {"execute", "fdatasync", "replace", "symlink"}
        chains = choose_chains(steps, rng)
        async with asyncio.TaskGroup() as group:
            lanes = [
                group.create_task(lane(chains[i::2], tmp_path / str(i), nursery, seed + i))
                for i, nursery in enumerate((first, second))
            ]
    done = sum((t.result() for t in lanes), Counter[str]())
    assert done["kills"] >= len(steps)
    assert done["power cuts"] >= 2 * len(DURABLE) - 1, "a seldom step may not be reached again"
    assert done["pages"] > 0


async def lane(chains: Sequence[Chain], folder: Path, nursery: Nursery, seed: int) -> Counter[str]:
    """Chain after chain, each in a scene drawn by lot."""
    rng, done = random.Random(seed), Counter[str]()
    for i, chain in enumerate(chains):
        scene = rng.choice(SCENES)
        done += await killed_and_lived_on(scene, chain, folder / str(i), nursery, rng)
        shutil.rmtree(folder / str(i))
    return done
