"""A process that runs the download service, to be killed: ``HOME ENDPOINT CACHE CHUNK_BYTES
[PROFILE]``.

Prints the job as a JSON line whenever it moves; ends when the job has.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from moshid.downloads.states import FINISHED, JobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.repos import REPO


async def main(
    home: Path, endpoint: str, cache: Path, chunk_bytes: int, profile: str = "auto"
) -> None:
    """Start, or go on with, the one job."""
    bus = Bus()
    events = bus.subscribe(["download"])
    numbers = replace(QUICK[profile], chunk_bytes=chunk_bytes)
    if profile == "turbo":
        numbers = replace(
            numbers, connections_max=2, whole_from_bytes=1 << 20, stall_timeout_s=20.0
        )
    profiles = {profile: numbers}
    async with running(make_service(home, endpoint, cache, bus=bus, profiles=profiles)) as service:
        if not service.list():
            await service.start(REPO, profile=profile)
        while True:
            job = service.list()[0]
            print(json.dumps(job.to_json()), flush=True)  # noqa: T201 - that is its purpose
            if JobState(job.state) in FINISHED:
                return
            await events.take()


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
    )
