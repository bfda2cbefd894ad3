"""Jobs that fetch the file of any URL: what a caller may ask for, and with which parts such a job
runs. Owns the entry of these jobs; everything after that is the ordinary engine's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries, Entry, new_id
from moshid.downloads.job import Job
from moshid.downloads.ledger import JobRow, Ledger, Want
from moshid.downloads.manner import Manner
from moshid.downloads.output import Output, check_output, endpoint_of
from moshid.downloads.profiles import Profile, choose
from moshid.downloads.site import site_of
from moshid.downloads.states import FINISHED, JobState
from moshid.downloads.terms import AS_THEY_ARE, Terms
from moshid.downloads.volume import stat_of
from moshid.downloads.web import check_url
from moshid.errors import InvalidParams, OutputUnusable

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")

Enter = Callable[[Engine, JobRow, Want, Terms], Awaitable[tuple[Job, bool]]]


class Urls:
    """Starts the jobs of URLs. ``enter`` makes or finds a job and lets it run."""

    def __init__(
        self,
        entries: Entries,
        profiles: Mapping[str, Profile],
        default_profile: str,
        engine: Callable[[], Engine],
        enter: Enter,
    ) -> None:
        self._entries = entries
        self._profiles = profiles
        self._default_profile = default_profile
        self._engine = engine
        self._enter = enter

    async def start(
        self,
        url: str,
        sha256: str,
        output: str,
        *,
        profile: str | None = None,
        chunk_bytes: int | None = None,
        workers: int | None = None,
        terms: Terms = AS_THEY_ARE,
    ) -> tuple[Job, bool]:
        """Start to fetch a URL's file, or join the job there is for this URL, digest and output.
        Returns the job, and whether it is new. Hashes a file that is at ``output`` already.

        Raises:
            InvalidParams: one of the values is of no use.
            OutputUnusable: the file cannot be put there.
        """
        terms = replace(terms, manner=Manner(profile, chunk_bytes, workers))
        profile = profile or self._default_profile
        choose(self._profiles, profile, chunk_bytes=chunk_bytes, workers=workers)
        url, path = check_url(url), check_output(output)
        if _SHA256.fullmatch(sha256) is None:
            raise InvalidParams("sha256 is the 64 hex digits of a SHA-256")
        where = (endpoint_of(path), url, "", sha256.lower())
        row = JobRow(new_id(), *where, profile, chunk_bytes, workers, JobState.QUEUED)
        engine = self._engine()
        found = self._entries.find(*where)
        self._refuse_rivals(row, found)
        await self._check(engine, found.row if found else row, path)
        return await self._enter(engine, row, Want("", (str(path),)), terms)

    def _refuse_rivals(self, row: JobRow, found: Entry | None) -> None:
        for entry in self._entries.all():
            rival = entry.row.endpoint == row.endpoint and entry is not found
            if rival and entry.job.state not in FINISHED:
                raise OutputUnusable(
                    f"job {entry.job.id} is about to write the same output",
                    hint=f"Wait for it, or cancel it: moshi-client cancel {entry.job.id}.",
                )

    async def _check(self, engine: Engine, row: JobRow, path: Path) -> None:
        """Refuse an output that cannot be; remember one that is right already."""
        here = await site_of(engine, row)
        assert isinstance(here.shelf, Output)
        assert row.commit_hash is not None
        if await here.on_disk(here.shelf.check, row.commit_hash):
            stat = await here.on_disk(stat_of, path)
            if stat is not None:
                await engine.ledger.call(Ledger.set_checked, str(path), *stat)
