"""Watching one download job to its end, across deaths of the daemon. Owns the reconnecting.

A job's id is stable and the ledger knows it, so after a kill the same job is found again.
"""

from __future__ import annotations

import time

from moshi_client import progress
from moshi_client.errors import ConnectionLost, DaemonNotRunning, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]

FINAL_STATES = ("done", "failed", "cancelled")
RETRY_INTERVAL_S = 0.25


class JobWatch:
    """Starts a job and shows its progress until it is done, failed or cancelled."""

    def __init__(
        self, ctx: Context, *, patience_s: float, on_job: Callable[[Json], None], writes: bool
    ) -> None:
        """``writes``: whether ``on_job`` writes on stdout, whose reader may go."""
        self._ctx = ctx
        self._patience_s = patience_s
        self._on_job = on_job
        self._wait = ctx.wait if writes else None
        self._line = progress.ProgressLine(ctx)
        self.job: Json | None = None
        self.created = False

    def run(self, connection: Connection, params: Json) -> Json:
        """Call download.start with ``params`` and watch; returns the job in its final state.

        Raises:
            RemoteError: the daemon refuses the job, or no longer knows it.
            DaemonNotRunning: the daemon went away and did not come back in time.
        """
        try:
            while True:
                try:
                    return self._watch(connection, params)
                except ConnectionLost:
                    connection.close()
                    connection = self._reconnect()
        finally:
            self._line.clear()
            connection.close()

    def _watch(self, connection: Connection, params: Json) -> Json:
        connection.call("events.subscribe", {"topics": ["download"]})
        if self.job is None:
            started = connection.call("download.start", params)
            self.created = bool(started.get("created"))
            job = self._show(started["job"])
        else:
            job = self._show(connection.call("download.get", {"id": self.job["id"]})["job"])
        updates = connection.follow(self._wait)
        while job["state"] not in FINAL_STATES:
            _, event = next(updates)
            data = event.get("data") or {}
            changed = data.get("job")
            if not changed or changed.get("id") != job["id"]:
                continue
            if (into := data.get("absorbed_by")) is not None:  # goes on under that name
                changed = connection.call("download.get", {"id": into})["job"]
            job = self._show(changed)
        return job

    def _show(self, job: Json) -> Json:
        self.job = job
        self._on_job(job)
        if job["state"] not in FINAL_STATES:
            fraction, stage = progress.job_fraction(job), str(job["state"])
            line = progress.job_line(job, columns=self._line.columns)
            self._line.show(line, fraction=fraction, stage=stage)
        return job

    def _reconnect(self) -> Connection:
        self._line.clear()
        name = f"job {self.job['id']}" if self.job else "the download"
        self._ctx.warn(f"the daemon went away; {name} goes on when it is back: waiting for it")
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                connection, _ = self._ctx.connect()
            except (DaemonNotRunning, RemoteError) as e:
                retryable = isinstance(e, DaemonNotRunning) or e.data.get("retryable")
                if not retryable or time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_INTERVAL_S)
            else:
                self._ctx.say("the daemon is back")
                return connection
