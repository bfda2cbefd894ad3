"""Which endpoint is asked when: health, hedging, the way back, and who is blamed."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from moshid.downloads.alternates import RECENT_S, UNFIT_S, Alternates, Endpoint
from moshid.downloads.backoff import Outage
from moshid.downloads.givers import Givers, Misses
from moshid.downloads.health import FIRST_S, MAX_S, Health
from moshid.downloads.job import Job
from moshid.downloads.meter import Meter
from moshid.downloads.remote import Absent, Listing, RemoteFile, Wanted
from moshid.downloads.setback import HOSTS_LOST_MAX, Setback
from moshid.downloads.source import FRESH_S, MISSES_MAX, RETURN_S, Patience, Source
from moshid.downloads.tally import Tally
from moshid.errors import DownloadGated, DownloadNetwork, DownloadNotFound, MoshidError

WANTED = Wanted("org/x", "c" * 40, "a.bin", "e" * 64, 10)
RIGHT = RemoteFile(WANTED.path, WANTED.commit, WANTED.etag, WANTED.size, "http://bytes/", "")


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Told:
    """A Hub that answers as it is told; ``says`` None: never."""

    says: RemoteFile | Absent | MoshidError | None = RIGHT
    asked: int = 0
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def head(self, _repo: str, _revision: str, _path: str) -> RemoteFile | Absent:
        self.asked += 1
        if self.says is None:
            self.waits.set()
            await asyncio.Event().wait()
        if isinstance(self.says, MoshidError):
            raise self.says
        assert self.says is not None
        return self.says

    async def config(self, _file: RemoteFile, _repo: str) -> dict[str, Any] | None:
        return {"from": id(self)}

    async def listing(self, _repo: str, revision: str) -> Listing:
        return Listing(revision, ())

    async def headers(self, url: str) -> dict[str, str]:
        return {"url": url, "hub": str(id(self))}


DOWN = DownloadNetwork("no line")


def joined(clock: Clock, *hubs: Told, hedge_s: float = 60.0) -> Alternates:
    """Endpoints a, b, c."""
    rng = random.Random(1)
    named = zip("abc", hubs, strict=False)
    return Alternates([Endpoint.of(n, h, rng, clock) for n, h in named], hedge_s, clock)


def test_health_backs_off_and_recovers() -> None:
    clock = Clock()
    health = Health(random.Random(1), clock)
    waits = []
    for _ in range(12):
        assert not health.is_down
        health.failed()
        waits.append(health.until_s - clock())
        health.failed(1e6)
        assert health.until_s - clock() == waits[-1], "what eight connections find counts once"
        clock.now_s = health.until_s
    assert FIRST_S / 2 <= waits[0] <= FIRST_S
    assert MAX_S / 2 <= max(waits) <= MAX_S
    health.well()
    health.failed(77.0)
    assert health.until_s - clock() == 77.0, "as long as the server wants"


@pytest.mark.asyncio
async def test_facts_are_the_first_ones_alone() -> None:
    first, second = Told(DOWN), Told()
    hub = joined(Clock(), first, second)
    with pytest.raises(DownloadNetwork):
        await hub.head("org/x", "main", "config.json")
    assert await hub.config(RIGHT, "org/x") == {"from": id(first)}
    assert (await hub.headers("http://x/", "b"))["hub"] == str(id(second))
    assert second.asked == 0


@pytest.mark.asyncio
async def test_a_silent_endpoint_is_not_waited_for_and_left_alone_then() -> None:
    clock, first, second = Clock(), Told(None), Told()
    hub = joined(clock, first, second, hedge_s=0.01)
    assert (await hub.locate(WANTED)).origin == "b"
    assert (await hub.locate(WANTED)).origin == "b"
    assert first.asked == 1
    clock.now_s += FIRST_S
    first.says = RIGHT
    assert (await hub.locate(WANTED)).origin == "a"


@pytest.mark.asyncio
async def test_a_slow_first_answer_counts_as_long_as_nobody_is_quicker() -> None:
    first, second = Told(None), Told(None)
    asking = asyncio.create_task(joined(Clock(), first, second, hedge_s=0.01).locate(WANTED))
    await second.waits.wait()
    assert first.asked == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.asyncio
@pytest.mark.parametrize("no", [DownloadGated("terms"), Absent(None)])
async def test_what_the_first_one_refuses_is_refused(no: Absent | MoshidError) -> None:
    hub = joined(Clock(), Told(no), Told())
    with pytest.raises((DownloadGated, DownloadNotFound)):
        await hub.locate(WANTED)


@pytest.mark.asyncio
async def test_what_an_alternate_refuses_is_asked_again_later() -> None:
    clock, first, second = Clock(), Told(DOWN), Told(Absent(None))
    hub = joined(clock, first, second)
    for _ in range(3):
        with pytest.raises(DownloadNetwork):
            await hub.locate(WANTED)
    assert (first.asked, second.asked) == (3, 1)
    assert not hub.has_other(WANTED, "a")
    clock.now_s += UNFIT_S
    second.says = RIGHT
    assert (await hub.locate(WANTED)).origin == "b"


@pytest.mark.asyncio
@pytest.mark.parametrize("other", [{"commit": "d" * 40}, {"etag": "d" * 64}, {"size": 11}])
async def test_an_alternate_with_another_file_is_of_no_use(other: dict[str, Any]) -> None:
    hub = joined(Clock(), Told(DOWN), Told(replace(RIGHT, **other)), Told())
    assert (await hub.locate(WANTED)).origin == "c"


@pytest.mark.asyncio
async def test_who_gave_wrong_bytes_is_avoided_in_that_job() -> None:
    root = joined(Clock(), Told(), Told(), Told())
    hub = root.for_job("1")
    assert root.for_job("1") is hub
    hub.blame("a")
    assert (await hub.locate(WANTED)).origin == "b"
    assert (await hub.locate(WANTED, besides={"b"})).origin == "c"
    hub.blame("b")
    hub.blame("c")
    assert (await hub.locate(WANTED)).origin == "a", "where else could it come from"
    hub.forgive()
    assert not hub.may_return({"a"})
    assert hub.may_return(())
    assert (await root.for_job("2").locate(WANTED)).origin == "a"


def source(hub: Alternates, tmp: Any) -> Source:
    """A source of the file wanted."""
    meter = Meter(Job("1", "org/x", "main"), Tally(tmp / "tally"))
    w = WANTED
    patience = Patience(lambda: Outage(0.0, 0.0, random.Random(1), lambda: 0.0), meter)
    return Source(hub, patience, w.repo, w.commit, w.path, w.etag, w.size)


@pytest.mark.asyncio
async def test_one_connection_tries_whether_the_first_is_back(tmp_path: Any) -> None:
    clock, first, second = Clock(), Told(), Told()
    src = source(joined(clock, first, second), tmp_path)
    link = await src.link()
    assert link.origin == "a"
    for _ in range(MISSES_MAX - 1):
        assert not src.missed(link, 0)
    assert not src.missed(link, 5), "bytes came over other connections: a new row"
    for _ in range(MISSES_MAX - 2):
        assert not src.missed(link, 5)
    assert src.missed(link, 5)
    assert (await src.link()).origin == "b"
    assert src.missed(link, 5), "a straggler goes over to the others at once"
    clock.now_s += RETURN_S
    trial, other = await src.link(), await src.link()
    assert (trial.origin, other.origin) == ("a", "b")
    assert src.missed(trial, 5)
    assert (await src.link()).origin == "b"
    clock.now_s += RETURN_S
    trial = await src.link()
    assert trial.origin == "a"
    src.took(trial, 0, 6)
    assert (await src.link()) is trial, "all go back"


@pytest.mark.asyncio
async def test_a_busy_server_is_left_at_once_if_there_is_another(tmp_path: Any) -> None:
    src = source(joined(Clock(), Told(), Told()), tmp_path)
    assert src.missed(await src.link(), 0, wait_s=30.0)
    assert (await src.link()).origin == "b"
    alone = source(joined(Clock(), Told()), tmp_path)
    assert not alone.missed(await alone.link(), 0, wait_s=30.0)


def test_a_row_of_misses() -> None:
    assert Misses().more(5).more(5).more(5) == Misses(5, 3)
    assert Misses().more(5).more(6) == Misses(6, 1)


def test_only_a_single_giver_is_blamed() -> None:
    hub = joined(Clock(), Told(), Told(), Told())
    givers = Givers(hub, "a.bin")
    for chunk, origins in enumerate(("a", "ab", "a", "a")):
        for origin in origins:
            givers.took(origin, chunk)
    givers.compare([1, 2])
    assert givers.shunned == {"a", "b"}
    givers.took("c", 1)
    givers.took("a", 2)
    assert givers.differed([1, 2]) is None, "two gave the one, the same gave the other twice"
    givers.compare([3])
    givers.took("b", 3)
    assert givers.differed([3]) == "a gave wrong bytes of a.bin (chunk 3)"
    assert not hub.may_return(())
    givers.compare([3])
    assert hub.may_return(()), "all were compared in vain: everybody is forgiven"


@pytest.mark.asyncio
async def test_a_recent_answer_stands_for_the_next_question_and_for_one_link(tmp_path: Any) -> None:
    clock, first = Clock(), Told()
    root = joined(clock, first)
    assert await root.head("org/x", "main", WANTED.path) == RIGHT
    assert await root.head("org/x", WANTED.commit, WANTED.path) == RIGHT
    assert first.asked == 2, "a branch's place moves with a push"
    hub = root.for_job("1")
    assert await hub.head("org/x", WANTED.commit, WANTED.path) == RIGHT
    src = source(hub, tmp_path)
    assert (await src.link()).url == RIGHT.location
    assert first.asked == 2
    src.expire()
    assert (await src.link()).url == RIGHT.location
    assert first.asked == 3, "a link that was no good is not given again"
    await hub.head("org/x", WANTED.commit, WANTED.path)
    clock.now_s += RECENT_S
    await source(hub, tmp_path).link()
    assert first.asked == 5, "an old answer's URL may have expired"


@pytest.mark.asyncio
async def test_a_lost_host_is_not_the_line_while_the_hub_answers(tmp_path: Any) -> None:
    clock = Clock()
    src = source(joined(clock, Told()), tmp_path)
    link = await src.link()
    assert src.is_fresh(link)
    clock.now_s += FRESH_S
    assert not src.is_fresh(link)
    fresh = Setback("no connection", unreachable=True, renewed=True, fresh=True)
    assert not fresh.says_line_is_down(HOSTS_LOST_MAX - 1)
    assert fresh.says_line_is_down(HOSTS_LOST_MAX)
    assert Setback("no connection", unreachable=True).says_line_is_down(0)
