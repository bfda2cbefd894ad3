"""What the handlers share: the services, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from moshid.audio.service import AudioService
from moshid.disposal import Disposal
from moshid.downloads.service import DownloadService
from moshid.events import Bus
from moshid.library import Library
from moshid.model.service import ModelService
from moshid.settings import Settings
from moshid.talk.service import TalkService
from moshid.whereabouts import Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The services behind the control plane."""

    settings: Settings
    bus: Bus
    downloads: DownloadService
    library: Library
    disposal: Disposal
    model: ModelService
    audio: AudioService
    talk: TalkService
    whereabouts: Whereabouts
    stop: Callable[[], None]
    started_at: float
    """time.monotonic() of the daemon's start, in seconds."""
