"""What joins catalogue, downloads, model and audio: names, and what a refusal leaves alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moshid.audio.service import AudioService
from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.errors import ModelNotFound, TalkBusy, WrongJobState
from moshid.events import Bus
from moshid.library import Library
from moshid.model import catalogue
from moshid.model.files import CheckpointPaths
from moshid.model.service import ModelService
from moshid.settings import Settings
from tests.fakes.talk_parts import PATHS

pytestmark = pytest.mark.asyncio


class BusyModel(ModelService):
    """A model that is in a talk."""

    async def load(self, paths: CheckpointPaths, **_how: Any) -> dict[str, Any]:
        raise TalkBusy(f"cannot load {paths.weights}")


class Sound(AudioService):
    """Counts the codecs it is asked to prepare."""

    codecs = 0

    def set_codec(self, codec: dict[str, Any] | None) -> None:
        self.codecs += codec is not None


class SlowDownloads(DownloadService):
    """Takes its time to pause, and says when it has."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began, self.may_end, self.paused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def pause(self, id_or_repo: str) -> Job:
        self.began.set()
        await self.may_end.wait()
        self.paused.set()
        raise WrongJobState(f"{id_or_repo} is done")


class Shelf(Library):
    """Has every model on disk."""

    async def find(self, model: str, quality: str = "auto") -> CheckpointPaths:
        assert (model, quality) == ("moshika", "auto")
        return PATHS


Parts = tuple[Settings, Bus, SlowDownloads, ModelService, Sound]


def make_parts(folder: Path) -> Parts:
    """What a library takes, not running."""
    settings, bus = Settings(home=folder, socket=folder / "s"), Bus()
    downloads = SlowDownloads(settings, bus, catalogue.select_files)
    return settings, bus, downloads, BusyModel(settings, bus), Sound(settings, bus)


async def test_a_refused_load_leaves_the_spare_its_codec(tmp_path: Path) -> None:
    """Else a talk that starts would wait in vain for a spare with its own model's codec."""
    parts = make_parts(tmp_path)
    with pytest.raises(TalkBusy):
        await Shelf(*parts).load("moshika", "auto")
    assert parts[-1].codecs == 0


@pytest.mark.parametrize("name", ["a/\0b", "../..", "a/..", "what"])
async def test_what_can_be_no_repository_is_not_looked_for(tmp_path: Path, name: str) -> None:
    library = Library(*make_parts(tmp_path))
    with pytest.raises(ModelNotFound):
        await library.repository(name)


async def test_a_repository_stands_for_itself(tmp_path: Path) -> None:
    assert await Library(*make_parts(tmp_path)).repository("org/name") == "org/name"


async def test_a_client_that_leaves_leaves_no_job_half_paused(tmp_path: Path) -> None:
    parts = make_parts(tmp_path)
    downloads = parts[2]
    asking = asyncio.create_task(Library(*parts).steer(downloads.pause, "org/name"))
    await downloads.began.wait()
    asking.cancel()
    await asyncio.wait({asking})
    downloads.may_end.set()
    await downloads.paused.wait()
