"""A job's numbers while it runs: bytes, rate, time left, trouble. Owns the live Job's counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from moshid.downloads.job import Job, JobError, JobFile
from moshid.downloads.ledger import Counters
from moshid.downloads.rate import Pace
from moshid.downloads.tally import Tally
from moshid.errors import MoshidError


class Meter:
    """Counts into ``job``; ``clock`` gives seconds; ``moved`` is told whenever bytes come."""

    def __init__(
        self,
        job: Job,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self._tally = tally
        job.bytes_fetched = max(job.bytes_fetched, tally.count)
        self.troubles = 0
        """Setbacks since the tuner last looked."""
        self._clock = clock
        self._moved = moved
        self._pace = Pace()
        self._coming_bytes = 0
        self._gained_bytes = 0
        self._warning: JobError | None = None

    def saw(self, count_bytes: int) -> None:
        """Bytes come over the line, on their way to ``arrived``: the rate need not wait for that,
        and does not show the size of the pieces that are written."""
        self._coming_bytes += count_bytes
        self._moved()

    def arrived(self, files: Sequence[JobFile], count_bytes: int) -> None:
        """Bytes came over the line and are on disk."""
        self._coming_bytes = max(0, self._coming_bytes - count_bytes)
        self._gained_bytes += count_bytes * len(files)
        self.job.bytes_fetched += count_bytes
        self._tally.count = self.job.bytes_fetched
        self.job.bytes_rescued += count_bytes * (len(files) - 1)
        self.hold(files, count_bytes)
        self.job.error = self._warning
        self._moved()

    def warn(self, error: MoshidError | None) -> None:
        """Show this while bytes arrive, too; None: nothing any more."""
        self._warning = None if error is None else JobError.of(error)

    def skipped(self, count_bytes: int) -> None:
        """Bytes came over the line that were there already."""
        self.job.bytes_fetched += count_bytes
        self._tally.count = self.job.bytes_fetched
        self._moved()

    def hold(self, files: Sequence[JobFile], count_bytes: int) -> None:
        """So many more bytes (fewer, if negative) of a blob are there; ``files`` all show it."""
        for file in files:
            file.bytes_done += count_bytes
        self.job.bytes_done += count_bytes * len(files)

    def settle(self) -> None:
        """Whatever is there and was not fetched by this job has been rescued."""
        unfetched = self.job.bytes_done - self.job.bytes_fetched
        self.job.bytes_rescued = max(self.job.bytes_rescued, unfetched)

    def rescued(self, count_bytes: int) -> None:
        """Bytes that needed no fetching."""
        self.job.bytes_rescued += count_bytes

    def corrupt(self, chunks: int) -> None:
        """Chunks whose bytes were not what they should be."""
        self.job.chunks_corrupt += chunks

    def setback(self, error: MoshidError, *, trouble: bool = True) -> None:
        """An attempt failed; the job goes on, and shows why it is not getting anywhere.
        ``trouble``: the line may be overloaded (an expired URL says nothing of the line)."""
        self.job.retries += 1
        self.troubles += trouble
        self.job.error = JobError.of(error)

    def tick(self) -> None:
        """Bring the rate, the time left and what was fetched twice up to date."""
        job, coming = self.job, self._coming_bytes
        left_bytes = max(0, job.bytes_total - job.bytes_done - coming)
        line_bytes, gained_bytes = job.bytes_fetched + coming, self._gained_bytes + coming
        self._pace.look(self._clock(), line_bytes, gained_bytes, left_bytes)
        eta_s = self._pace.eta_s
        job.rate_bps = round(self._pace.rate_bps, 1)
        job.eta_s = None if eta_s is None else round(eta_s, 1)
        count_refetched(job)

    def stop(self) -> None:
        """Nothing moves any more."""
        self._pace, self._coming_bytes = Pace(), 0
        self.job.rate_bps, self.job.eta_s, self.job.connections = 0.0, None, 0
        count_refetched(self.job)

    def counters(self) -> Counters:
        """What the ledger keeps."""
        return counters_of(self.job)


def counters_of(job: Job) -> Counters:
    """The counts of a job that outlive the process."""
    j = job
    return Counters(j.id, j.bytes_fetched, j.bytes_rescued, j.chunks_corrupt, j.retries)


def count_refetched(job: Job) -> None:
    """What came in, fetched or rescued, beyond what is there, has come or will come twice; unless
    it turns up again, as bytes do of which a broken ledger knew."""
    twice = job.bytes_fetched + job.bytes_rescued - job.bytes_done
    job.bytes_refetched = max(0, twice)
