"""Which job a name means. Owns the refusal of a URL that is that of several, whose outputs differ.

The daemon takes the newest of a name, which is right for a repository; of two files that come from
one URL it may be the other one.
"""

from __future__ import annotations

from moshi_client import progress
from moshi_client.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from moshi_client.wire import Connection

_OUT_OF_REACH = {
    "pause": ("done", "failed", "cancelled"),
    "cancel": ("done", "cancelled"),
    "verify": ("cancelled",),
}
"""The states in which a job cannot be what a command means."""


def one_job(connection: Connection, command: str, name: str, *, changes: bool = True) -> str:
    """The id of the one job that ``command`` can mean by a URL; any other name as it is.

    ``changes``: whether something is done to it; any job can be looked at.

    Raises:
        UsageError: it can mean several.
    """
    if "://" not in name:
        return name
    states = _OUT_OF_REACH.get(command, ("done",)) if changes else ()
    jobs = connection.call("download.list")["jobs"]
    meant = [job for job in jobs if job.get("repo") == name and job.get("state") not in states]
    if len(meant) > 1:
        ids = "; ".join(f"{j['id']} ({j.get('state')}), {progress.job_name(j)}" for j in meant)
        hint = f"Name it by its id: moshi-client {command} {meant[-1]['id']}."
        raise UsageError(f"{len(meant)} downloads are of that URL: {ids}", hint)
    return str(meant[0]["id"]) if meant else name
