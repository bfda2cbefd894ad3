"""What tests of URL jobs share: a seeded file, a service without a Hub, an output, job pictures."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, until
from tests.fakes.repos import content

SIZE = 1_500_001
CHUNK_BYTES = QUICK["auto"].chunk_bytes
FILE = content(SIZE)
RIGHT = sha256(FILE).hexdigest()


def service_at(tmp_path: Path, home: str = "home", bus: Bus | None = None) -> DownloadService:
    """A service whose Hub is not there: a URL needs none."""
    return make_service(tmp_path / home, "http://127.0.0.1:9", tmp_path / "cache", bus=bus)


def place(tmp_path: Path) -> Path:
    """The output, in a folder of its own."""
    (tmp_path / "out").mkdir(exist_ok=True)
    return tmp_path / "out" / "voice.bin"


def beside(output: Path) -> list[Path]:
    """What else is in the output's folder."""
    return [p for p in output.parent.iterdir() if p != output]


def failed_by(job: Job) -> str | None:
    """The kind of a job's error."""
    return job.error.kind if job.error else None


def shows(kind: str) -> Callable[[Job], bool]:
    """Whether a job shows an error of this kind."""
    return lambda job: failed_by(job) == kind


async def held_back(bus: Bus, bytes_done: int = 100_000) -> Job:
    """The job once so much has arrived."""
    return await until(bus, lambda j: j.bytes_done > bytes_done)
