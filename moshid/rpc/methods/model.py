"""``model.*``: list, load, unload, status, bench."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

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

    Result: ``{state, model, quality, memory_bytes, load_s, warmup_s, step_ms: {p50, p95, p99},
    until, pid, restarts, error, progress}``.
    """
    return app.model.status()


async def bench(app: App, _caller: Caller, p: BenchParams) -> dict[str, Any]:
    """Run real steps on the resident model.

    Result: ``{steps, step_ms: {p50, p95, p99, min, max}, budget_ms, realtime, memory_bytes}``.
    Errors: ``model.not_loaded``, ``talk.busy``.
    """
    return await app.model.bench(p.steps)


METHODS: list[Method[App]] = [
    Method("model.list", NoParams, list_models),
    Method("model.load", LoadParams, load),
    Method("model.unload", NoParams, unload),
    Method("model.status", NoParams, status),
    Method("model.bench", BenchParams, bench),
]
