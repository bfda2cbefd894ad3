"""``model.*``: list, load, unload, status, bench, delete, prune."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from moshid.downloads.space import SpaceReport
from moshid.model.messages import BENCH_STEPS_MAX
from moshid.rpc.app import App
from moshid.rpc.caller import Caller
from moshid.rpc.methods.download import Name, Quality
from moshid.rpc.registry import Method, NoParams, Params


class LoadParams(Params):
    """``model``: a catalogue name or org/name; nothing: the default model."""

    model: Name | None = None
    quality: Quality = "auto"
    wait: bool = True


class BenchParams(Params):
    """``steps``: how many real steps to run."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=BENCH_STEPS_MAX)] = 100


class DeleteParams(Params):
    """``quality``: only the repository of this one; ``dry_run``: only tell what would go."""

    model: Name
    quality: Quality = "auto"
    dry_run: bool = False


class PruneParams(Params):
    """``dry_run``: only tell what would go."""

    dry_run: bool = False


async def list_models(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """List the known models, and what is on disk of them.

    Result: ``{models: [{name, repo, repos, description, qualities, on_disk, on_disk_qualities,
    disk_bytes, loaded}]}``; ``qualities`` holds the weights' sizes in bytes, where known.
    """
    return {"models": await app.library.overview()}


async def load(app: App, _caller: Caller, p: LoadParams) -> dict[str, Any]:
    """Make a model that is on disk resident, and wait (unless ``wait`` is false) until it is ready.

    Result: model.status. Progress comes as events. Errors: ``model.not_found``,
    ``model.bad_checkpoint``, ``model.out_of_memory``, ``talk.busy``, ...
    """
    model = p.model or app.settings.default_model
    return await app.library.load(model, p.quality, wait=p.wait)


async def unload(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """End the model's process, which gives its memory back.

    Result: model.status.
    """
    return await app.model.unload()


async def status(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Tell how the model is.

    Result: ``{state, model, quality, weights, memory_bytes, load_s, warmup_s, step_ms: {p50, p95,
    p99}, until, pid, restarts, error, progress}``; ``weights`` is the file it was made of.
    """
    return app.model.status()


async def bench(app: App, _caller: Caller, p: BenchParams) -> dict[str, Any]:
    """Run real steps on the resident model.

    Result: ``{steps, step_ms: {p50, p95, p99, min, max}, budget_ms, realtime, memory_bytes}``.
    Errors: ``model.not_loaded``, ``talk.busy``.
    """
    return await app.model.bench(p.steps)


async def delete(app: App, _caller: Caller, p: DeleteParams) -> dict[str, Any]:
    """Delete a model's repositories from the Hugging Face cache, and forget its downloads.

    A paused or failed download of it goes with its partial files. Result: ``{deleted: [{repo,
    revision, bytes}], files: [{path, bytes}], freed_bytes, dry_run}``; ``files`` are partial ones,
    by their path in the cache. Errors: ``model.not_found``, ``model.in_use``.
    """
    return _plain(await app.disposal.delete(p.model, p.quality, dry_run=p.dry_run))


async def prune(app: App, _caller: Caller, p: PruneParams) -> dict[str, Any]:
    """Delete what is old or left over in the repositories of known models and of downloads.

    That is: revisions that no ref names, where one names another, and no download is for; partial
    files that no download wants; what huggingface_hub left half-fetched, a day old and not locked.
    What is loaded or being downloaded is left out. Result: as of ``model.delete``.
    """
    return _plain(await app.disposal.prune(dry_run=p.dry_run))


def _plain(report: SpaceReport) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.to_builtins(report)
    return answer


METHODS: list[Method[App]] = [
    Method("model.list", NoParams, list_models),
    Method("model.load", LoadParams, load),
    Method("model.unload", NoParams, unload),
    Method("model.status", NoParams, status),
    Method("model.bench", BenchParams, bench),
    Method("model.delete", DeleteParams, delete),
    Method("model.prune", PruneParams, prune),
]
