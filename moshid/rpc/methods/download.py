"""``download.*``: start, list, get, pause, resume, cancel, verify."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from moshid.errors import InvalidParams
from moshid.library import one_name
from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, Params

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Quality = Literal["auto", "bf16", "q8", "q4"]


class DownloadStartParams(Params):
    """``model`` (catalogue name) or ``repo`` (org/name); neither: the default model.

    Or any file: its ``url`` (http, https), its ``sha256`` and the absolute path ``output``.
    """

    model: Name | None = None
    repo: Name | None = None
    quality: Quality | None = None
    revision: Name | None = None
    files: list[Name] | None = None
    url: Text | None = None
    sha256: Text | None = None
    output: Text | None = None
    profile: Literal["auto", "verified", "robust", "parallel", "turbo"] | None = None
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    workers: Annotated[int, msgspec.Meta(ge=1)] | None = None
    wait: bool = False


class JobParams(Params):
    """``id``: a job's id, the name of its model or repository, or its URL."""

    id: Text


class VerifyParams(Params):
    """A job's ``id`` or URL, a ``model`` or a ``repo``; nothing: the default model."""

    id: Text | None = None
    model: Name | None = None
    repo: Name | None = None
    repair: bool = False


async def start(app: App, _caller: Caller, p: DownloadStartParams) -> dict[str, Any]:
    """Start to download a model's files into the Hugging Face cache, or join the job there is.

    With ``url``, ``sha256`` and ``output`` (all three; without ``model``, ``repo``, ``quality``,
    ``revision``, ``files``) it is that file, put at that path once its digest is right; in the job,
    ``repo`` is the URL and ``commit`` the SHA-256. With ``wait`` the answer comes when the job is
    done, failed or cancelled. Result: ``{job, created}``. Errors: ``model.not_found``,
    ``download.not_found``, ``download.gated``, ``download.bad_output``, ...
    """
    profile = p.profile or app.settings.download_profile
    if (file := _file_of(p)) is not None:
        job, created = await app.downloads.urls.start(
            *file, profile=profile, chunk_bytes=p.chunk_bytes, workers=p.workers
        )
    else:
        job, created = await app.library.fetch(
            one_name(p.model, p.repo, app.settings.default_model),
            p.quality or "auto",
            revision=p.revision,
            files=p.files,
            profile=profile,
            chunk_bytes=p.chunk_bytes,
            workers=p.workers,
        )
    if p.wait:
        job = await app.downloads.wait(job.id)
    return {"job": job.to_json(), "created": created}


def _file_of(p: DownloadStartParams) -> tuple[str, str, str] | None:
    """URL, SHA-256 and output, if it is a URL's file that is wanted."""
    if p.url is None and p.sha256 is None and p.output is None:
        return None
    if p.url is None or p.sha256 is None or p.output is None:
        raise InvalidParams("url, sha256 and output go together: give all three or none")
    for name in ("model", "repo", "quality", "revision", "files"):
        if getattr(p, name) is not None:
            raise InvalidParams(f"{name} and url exclude each other")
    return p.url, p.sha256, p.output


async def list_jobs(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """List all jobs, oldest first.

    Result: ``{jobs}``.
    """
    return {"jobs": [job.to_json() for job in app.downloads.list()]}


async def get(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Tell how one job is.

    Result: ``{job}``. Errors: ``download.no_such_job``.
    """
    name = await app.library.repository(p.id)
    return {"job": app.downloads.get(name).to_json()}


async def pause(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Stop a job for now; what has come is kept.

    Result: ``{job}``.
    """
    job = await app.downloads.pause(await app.library.repository(p.id))
    return {"job": job.to_json()}


async def resume(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Go on with a paused, failed or cancelled job.

    Result: ``{job}``.
    """
    job = await app.downloads.resume(await app.library.repository(p.id))
    return {"job": job.to_json()}


async def cancel(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Give a job up and delete its partial files.

    Result: ``{job}``.
    """
    job = await app.downloads.cancel(await app.library.repository(p.id))
    return {"job": job.to_json()}


async def verify(app: App, _caller: Caller, p: VerifyParams) -> dict[str, Any]:
    """Read a model's files again and name what is bad; ``repair`` fetches exactly that.

    Result: ``{ok, files: [{path, size, digest, ok, bad_chunks, missing}], repaired_bytes}``.
    """
    name = p.id or one_name(p.model, p.repo, app.settings.default_model)
    report = await app.downloads.verify(await app.library.repository(name), repair=p.repair)
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return answer


METHODS: list[Method[App]] = [
    Method("download.start", DownloadStartParams, start),
    Method("download.list", NoParams, list_jobs),
    Method("download.get", JobParams, get),
    Method("download.pause", JobParams, pause),
    Method("download.resume", JobParams, resume),
    Method("download.cancel", JobParams, cancel),
    Method("download.verify", VerifyParams, verify),
]
