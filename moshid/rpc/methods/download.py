"""``download.*``: start, list, get, pause, resume, cancel, verify, set, limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from moshid.downloads.terms import SAME, Priority, Terms
from moshid.errors import InvalidParams, ModelNotFound, NoSuchJob
from moshid.library import one_name
from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.registry import Method, NoParams, Params

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Quality = Literal["auto", "bf16", "q8", "q4"]
Urgency = Literal["high", "normal", "low"]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class DownloadStartParams(Params):
    """``model`` (catalogue name) or ``repo`` (org/name); neither: the default model.

    Or any file: its ``url`` (http, https), its ``sha256`` and the absolute path ``output``.
    """

    model: Name | None = None
    repo: Name | None = None
    quality: Quality | None = None
    revision: Name | None = None
    files: list[Text] | None = None
    url: Text | None = None
    sha256: Text | None = None
    output: Text | None = None
    profile: Literal["auto", "verified", "robust", "parallel", "turbo"] | None = None
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1)] | None = None
    workers: Annotated[int, msgspec.Meta(ge=1)] | None = None
    priority: Urgency | None = None
    limit_bps: Positive | msgspec.UnsetType | None = msgspec.UNSET
    sources: Annotated[list[Text], msgspec.Meta(max_length=64)] = msgspec.field(
        name="from", default_factory=list
    )
    wait: bool = False


class SetParams(Params):
    """``id``: as for the others. ``limit_bps``: bytes a second; null lifts the job's limit."""

    id: Text
    priority: Urgency | msgspec.UnsetType = msgspec.UNSET
    limit_bps: Positive | msgspec.UnsetType | None = msgspec.UNSET


class LimitsParams(Params):
    """What is given is changed, null lifts it. ``limit_bps``: bytes a second over all downloads."""

    limit_bps: Positive | msgspec.UnsetType | None = msgspec.UNSET
    schedule: Text | msgspec.UnsetType | None = msgspec.UNSET
    metered: bool | msgspec.UnsetType | None = msgspec.UNSET


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
    ``repo`` is the URL, ``commit`` the SHA-256 and ``output`` the path. ``profile``,
    ``chunk_bytes`` and ``workers`` count from now on for a job that there is, too; files that are
    begun keep their chunks' size. A profile that is named brings its own numbers. ``priority`` (the
    default is normal) and ``limit_bps`` (bytes a second) are the job's, new or not; see
    ``download.set``. ``from``: absolute paths of files and folders that may hold bytes of it; what
    is right there is not fetched. With ``wait`` the answer comes when the job is done, failed or
    cancelled (if it became part of another one at the same commit: when that one is). Result:
    ``{job, created}``. Errors: ``model.not_found``, ``download.not_found``, ``download.gated``,
    ``download.bad_output``, ...
    """
    priority = Priority(p.priority) if p.priority else None
    limit_bps = SAME if p.limit_bps is msgspec.UNSET else p.limit_bps
    terms = Terms(priority, limit_bps, tuple(p.sources))
    if (file := _file_of(p)) is not None:
        job, created = await app.downloads.urls.start(
            *file, profile=p.profile, chunk_bytes=p.chunk_bytes, workers=p.workers, terms=terms
        )
    else:
        job, created = await app.library.fetch(
            one_name(p.model, p.repo, app.settings.default_model),
            p.quality or "auto",
            revision=p.revision,
            files=p.files,
            profile=p.profile,
            chunk_bytes=p.chunk_bytes,
            workers=p.workers,
            terms=terms,
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
    """List all jobs, oldest first; of those that are over, the last 200.

    What a job brought may have been deleted since by others: ``model.list`` and
    ``download.verify`` look. Result: ``{jobs, limits}``, the limits as ``download.limits``
    has them.
    """
    jobs = [job.to_json() for job in app.downloads.list()]
    return {"jobs": jobs, "limits": app.downloads.controls.limits()}


async def _meant(app: App, name: str) -> str:
    """What ``id`` stands for in downloads.

    Raises:
        NoSuchJob: it can be nothing.
    """
    try:
        return await app.library.repository(name)
    except ModelNotFound as e:
        raise NoSuchJob(
            f"there is no download {name!r}, nor a model of that name",
            hint="Give a job's id, its model, its repository as org/name, or its URL; "
            "list the jobs: moshi-client downloads.",
            **e.facts,
        ) from e


async def get(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Tell how one job is.

    Result: ``{job}``. Errors: ``download.no_such_job``.
    """
    name = await _meant(app, p.id)
    return {"job": app.downloads.get(name).to_json()}


async def pause(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Stop a job for now; what has come is kept.

    Result: ``{job}``. Errors: ``download.no_such_job``.
    """
    job = await app.downloads.pause(await _meant(app, p.id))
    return {"job": job.to_json()}


async def resume(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Go on with a paused, failed or cancelled job.

    Result: ``{job}``. Errors: ``download.no_such_job``.
    """
    job = await app.downloads.resume(await _meant(app, p.id))
    return {"job": job.to_json()}


async def cancel(app: App, _caller: Caller, p: JobParams) -> dict[str, Any]:
    """Give a job up and delete its partial files.

    Result: ``{job}``. Errors: ``download.no_such_job``.
    """
    job = await app.downloads.cancel(await _meant(app, p.id))
    return {"job": job.to_json()}


async def set_terms(app: App, _caller: Caller, p: SetParams) -> dict[str, Any]:
    """Change how urgent a job is, or how fast it may be.

    Of two jobs that run, the one of higher priority gets more of the line. A job of low priority
    opens two connections at most, and waits while another job moves bytes. Result: ``{job}``.
    Errors: ``download.no_such_job``.
    """
    priority = None if p.priority is msgspec.UNSET else Priority(p.priority)
    terms = Terms(priority, SAME if p.limit_bps is msgspec.UNSET else p.limit_bps)
    name = await _meant(app, p.id)
    return {"job": (await app.downloads.controls.set_terms(name, terms)).to_json()}


async def limits(app: App, _caller: Caller, p: LimitsParams) -> dict[str, Any]:
    """Tell, or change, what all downloads together may do; it is remembered.

    ``schedule``: the hours in which downloads run, as ``22:00-07:00`` or ``mon-fri 22:00-07:00;
    sat,sun 00:00-24:00``, in local time; ``; else 200k`` lets them run at that speed outside.
    ``metered``: only jobs of high priority run. A job that waits is ``queued``, and its ``error``
    says for what. Result: ``{limit_bps, schedule, metered, open, until, limit_now_bps}``: ``open``
    within the hours, ``until`` that local time; ``limit_now_bps``, the limit that goes now.
    """
    given = {name: getattr(p, name) for name in ("limit_bps", "schedule", "metered")}
    changes = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    if "metered" in changes:
        changes["metered"] = bool(changes["metered"])
    return await app.downloads.controls.set_limits(**changes)


async def verify(app: App, _caller: Caller, p: VerifyParams) -> dict[str, Any]:
    """Read a model's files again and name what is bad; ``repair`` fetches exactly that.

    ``ok``: what has come is right; a file is all there if ``missing_bytes`` is 0. ``missing``: the
    snapshot does not show it, or nothing of it is there. ``state`` is the job's, null without a
    job; what an unfinished one has not brought yet is no damage, and comes with
    ``download.resume``. Result: ``{ok, files: [{path, size, digest, ok, bad_chunks, missing,
    mended_chunks, missing_bytes}], repaired_bytes, repaired_chunks, state}``. Errors:
    ``download.no_such_job`` (it was never downloaded, or ``id`` is nobody's), ``model.not_found``
    (``model`` is none).
    """
    if p.id is not None:
        name = await _meant(app, p.id)
    else:
        model = one_name(p.model, p.repo, app.settings.default_model)
        name = await app.library.repository(model)
    report = await app.downloads.verify(name, repair=p.repair)
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
    Method("download.set", SetParams, set_terms),
    Method("download.limits", LimitsParams, limits),
]
