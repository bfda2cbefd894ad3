"""Where a model is while no process holds it: absent, downloading, or on disk."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.downloads.states import JobState
from moshid.events import Bus
from moshid.model import catalogue
from moshid.model.files import V0_1_CODEC, V0_1_TOKENIZER
from moshid.model.service import ModelService
from moshid.model.states import State
from moshid.settings import Settings
from moshid.whereabouts import Whereabouts, of
from tests.fakes import small_models

Q4 = "kyutai/moshiko-mlx-q4"
BF16 = "kyutai/moshiko-mlx-bf16"
TIMEOUT_S = 60.0
FILES = ("model.q4.safetensors", V0_1_TOKENIZER, V0_1_CODEC)

NAMED_BY_CONFIG = ("tokenizer_spm_small.model", "codec.safetensors")


def shelf(folder: Path, *names: str) -> Mapping[str, Path]:
    for name in names:
        (folder / name).touch()
    return {name: folder / name for name in names}


@pytest.mark.parametrize(
    ("names", "coming", "state"),
    [
        ((), set(), State.ABSENT),
        ((), {"kyutai/moshika-mlx-q4"}, State.ABSENT),
        ((), {BF16}, State.DOWNLOADING),
        (FILES[1:], {Q4}, State.DOWNLOADING),
        (FILES[:2], set(), State.ABSENT),
        (FILES, set(), State.UNLOADED),
        (FILES, {BF16}, State.UNLOADED),
    ],
)
def test_where_it_is(tmp_path: Path, names: list[str], coming: set[str], state: State) -> None:
    files = shelf(tmp_path, *names)
    assert of("moshiko", lambda repo: files if repo == Q4 else {}, coming) is state


@pytest.mark.parametrize(
    "config",
    ["", "[" * 100_000, json.dumps(small_models.config() | {"delays": 3})],
    ids=["empty", "nested deeply", "delays that are none"],
)
def test_what_cannot_be_read_is_there(tmp_path: Path, config: str) -> None:
    files = shelf(tmp_path, *FILES, "config.json", *NAMED_BY_CONFIG)
    files["config.json"].write_text(config)
    assert of("moshiko", lambda repo: files if repo == Q4 else {}, set()) is State.UNLOADED


def test_what_nobody_knows_is_absent() -> None:
    assert of("nonsense", lambda _repo: {}, {BF16}) is State.ABSENT


class Downloads(DownloadService):
    """Jobs and files as the test has them."""

    def __init__(self, settings: Settings, bus: Bus) -> None:
        super().__init__(settings, bus, catalogue.select_files)
        self.bus = bus
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, Path] = {}
        self.fault: Exception | None = None
        self.goes = threading.Event()
        self.goes.set()
        self.looks = 0

    def list(self) -> list[Job]:
        if self.fault is not None:
            raise self.fault
        return [*self.jobs.values()]

    def on_disk(self, repo: str, _revision: str = "main") -> dict[str, Path]:
        self.looks += repo == Q4
        assert self.goes.wait(TIMEOUT_S)
        return self.files if repo == Q4 else {}

    def tell(self, repo: str, state: JobState) -> None:
        job = Job(id=repo, repo=repo, revision="main", state=state)
        self.jobs[repo] = job
        self.bus.publish("download", {"job": job.to_json()}, key=repo)


@pytest.mark.asyncio
async def test_the_status_follows_the_downloads(tmp_path: Path) -> None:
    settings, bus = Settings(home=tmp_path, socket=tmp_path / "s"), Bus()
    downloads, model = Downloads(settings, bus), ModelService(settings, bus)
    part = Whereabouts("moshiko", bus, downloads, model)
    events, started = bus.subscribe(["model"]), asyncio.Event()

    async def next_state() -> str:
        return str((await events.take()).event.data["status"]["state"])

    running = asyncio.create_task(part.run(started=started))
    try:
        assert await next_state() == "absent"
        downloads.tell(Q4, JobState.PROBING)
        assert await next_state() == "downloading"
        downloads.tell(Q4, JobState.FAILED)
        assert await next_state() == "absent"
        downloads.tell(Q4, JobState.DOWNLOADING)
        assert await next_state() == "downloading"
        downloads.files = dict(shelf(tmp_path, *FILES))
        downloads.tell(Q4, JobState.DONE)
        assert await next_state() == "unloaded"
        downloads.files = {}  # deleted meanwhile: whoever asks is told
        await part.look()
        told = model.status()
        assert (told["state"], told["model"], told["about"]) == ("absent", None, "moshiko")
        downloads.tell("kyutai/moshika-mlx-q4", JobState.DOWNLOADING)
        model.note_disk(State.DOWNLOADING, "moshika")
        await part.look()
        told = model.status()
        assert (told["state"], told["about"]) == ("downloading", "moshika"), "asked for last"
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.asyncio
async def test_a_fault_there_does_not_end_the_daemon(tmp_path: Path) -> None:
    """It is one of its parts, and would fail again at each start."""
    settings, bus = Settings(home=tmp_path, socket=tmp_path / "s"), Bus()
    downloads, model = Downloads(settings, bus), ModelService(settings, bus)
    downloads.fault = OSError(errno.EMFILE, "Too many open files")
    part = Whereabouts("moshiko", bus, downloads, model)
    events, started = bus.subscribe(["model"]), asyncio.Event()
    running = asyncio.create_task(part.run(started=started))
    try:
        await started.wait()  # and it has looked
        downloads.fault = None
        downloads.tell(Q4, JobState.PROBING)
        assert (await events.take()).event.data["status"]["state"] == "downloading"
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.asyncio
async def test_a_disk_that_stands_still_holds_up_no_status_and_one_thread(tmp_path: Path) -> None:
    settings, bus = Settings(home=tmp_path, socket=tmp_path / "s"), Bus()
    downloads, model = Downloads(settings, bus), ModelService(settings, bus)
    part = Whereabouts("moshiko", bus, downloads, model, patience_s=0.01)
    await part.look()
    downloads.goes.clear()
    downloads.looks = 0
    for _ in range(10):
        await part.look()
    assert downloads.looks <= 1
    assert model.status()["state"] == "absent", "as it was"
    downloads.files = dict(shelf(tmp_path, *FILES))
    downloads.goes.set()
    while model.status()["state"] != "unloaded":
        await part.look()


@pytest.mark.asyncio
async def test_a_faulty_disk_is_no_fault_of_who_asks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings, bus = Settings(home=tmp_path, socket=tmp_path / "s"), Bus()
    downloads, model = Downloads(settings, bus), ModelService(settings, bus)
    downloads.fault = OSError(errno.EIO, "Input/output error")
    before = model.status()
    await Whereabouts("moshiko", bus, downloads, model).look()
    assert model.status() == before
    assert "cannot be told: [Errno 5] Input/output error" in caplog.text
