"""The engine as one job sees it: a Hub's job has the Hub and the cache; a URL's job has the server
of the URL and the path that its user named. Owns that choice.
"""

from __future__ import annotations

from dataclasses import replace

from moshid.downloads.alternates import Alternates
from moshid.downloads.engine import Engine
from moshid.downloads.ledger import JobRow, Ledger
from moshid.downloads.output import Output, output_of
from moshid.downloads.states import FileState
from moshid.downloads.web import WebHub


async def site_of(engine: Engine, row: JobRow) -> Engine:
    """The engine for the job of this row."""
    path = output_of(row.endpoint)
    if path is None:
        return _with_alternates(engine, row.id)
    files = await engine.ledger.call(Ledger.files, row.id)
    output = Output(path, made=any(f.state == FileState.DONE for f in files))
    return replace(engine, hub=WebHub(engine, path), shelf=output, volume=output.volume)


def _with_alternates(engine: Engine, job_id: str) -> Engine:
    """What a job holds against an endpoint, it holds alone."""
    if not isinstance(engine.hub, Alternates):
        return engine
    return replace(engine, hub=engine.hub.for_job(job_id))
