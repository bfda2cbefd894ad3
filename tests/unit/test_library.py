"""What joins catalogue, downloads, model and audio: names, and what a refusal leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moshid.audio.service import AudioService
from moshid.downloads.service import DownloadService
from moshid.errors import ModelNotFound, TalkBusy
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


class Shelf(Library):
    """Has every model on disk."""

    async def find(self, model: str, quality: str = "auto") -> CheckpointPaths:
        assert (model, quality) == ("moshika", "auto")
        return PATHS


Parts = tuple[Settings, Bus, DownloadService, ModelService, Sound]


def make_parts(folder: Path) -> Parts:
    """What a library takes, not running."""
    settings, bus = Settings(home=folder, socket=folder / "s"), Bus()
    downloads = DownloadService(settings, bus, catalogue.select_files)
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
