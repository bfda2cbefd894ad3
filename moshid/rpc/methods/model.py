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
from moshid.talk.request import check_keep_alive


class LoadParams(Params):
    """``model``: a catalogue name or org/name; nothing: the default model. ``keep_alive``: how long
    it stays after its last use."""

    model: Name | None = None
    quality: Quality = "auto"
    wait: bool = True
    keep_alive: str | float | None = None


class BenchParams(Params):
    """``steps``: how many real steps to run; ``compare``: upstream's LmGen beside ours; ``trace``:
    each step's time, too."""

    steps: Annotated[int, msgspec.Meta(ge=1, le=BENCH_STEPS_MAX)] = 100
    compare: bool = False
    trace: bool = False


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

    Result: ``{models: [{name, repo, repos, description, qualities, digests, on_disk,
    on_disk_qualities, disk_bytes, quantised, auto, loaded}]}``; ``qualities`` holds the weights'
    sizes in bytes, ``digests`` their SHA-256, where known; ``quantised`` the copies that were
    quantised here: ``[{quality, bytes, path}]``; ``auto``: ``{quality, why}``, what auto takes.
    """
    return {"models": await app.library.overview()}


async def load(app: App, _caller: Caller, p: LoadParams) -> dict[str, Any]:
    """Make a model that is on disk resident, and wait (unless ``wait`` is false) until it is ready.

    ``keep_alive``: seconds, or a duration (``"10m"``, ``"1h30m"``), or ``"forever"``: how long it
    stays after its last use (a talk, a benchmark, this load); 0: until the next use is over. Left
    out, it is the setting's, or as it was for a model that is resident. Result: model.status.
    Progress comes as events. Errors: ``model.not_found``, ``model.bad_checkpoint``,
    ``model.out_of_memory``, ``talk.busy``, ...
    """
    check_keep_alive(p.keep_alive)
    model = p.model or app.settings.default_model
    return await app.library.load(model, p.quality, wait=p.wait, keep_alive=p.keep_alive)


async def unload(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """End the model's process, which gives its memory back.

    Result: model.status.
    """
    await app.model.unload()
    await app.whereabouts.look()
    return app.model.status()


async def status(app: App, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Tell how the model is.

    Result: ``{state, model, quality, weights, memory_bytes, load_s, warmup_s, step_ms: {p50, p95,
    p99}, last_step: {at, ms}, last_fault: {at, kind, message}, keep_alive_s, until, pid, restarts,
    error, progress, why, about}``; ``weights`` is the file it was made of, ``progress`` is
    ``{stage, fraction, bytes_done, bytes_total, layers_done, layers_total}`` while it loads,
    ``why`` says why it is this quality. ``last_step`` is the last real step that succeeded, in a
    talk or to keep the model warm; ``last_fault`` is what ended a process of it last.
    ``keep_alive_s`` null: it stays for ever. ``until`` (RFC 3339, UTC) is when it will be
    unloaded, null while it is in use or stays for ever. While no process holds a model, ``model``
    is null, and ``state`` is about the one that was asked for last, else the default one, which
    ``about`` names: ``absent``, ``downloading``, or ``unloaded`` when it is on disk.
    """
    await app.whereabouts.look()
    return app.model.status()


async def bench(app: App, _caller: Caller, p: BenchParams) -> dict[str, Any]:
    """Run real steps on the resident model.

    Result: ``{steps, step_ms: {p50, p95, p99, min, max}, budget_ms, budget_share: {p50, p95, p99},
    realtime, memory_bytes, bandwidth: {weights_bytes, step_bytes, full_step_bytes, reached_bps,
    needed_bps, machine_bps, floor_ms}, compare, trace}``. ``step_bytes`` is what a step reads on
    average here, ``full_step_bytes`` with a full cache; ``needed_bps`` is for one such step each
    80 ms; ``machine_bps`` is what one pass over memory reached in the same run, ``floor_ms`` the
    time that ``step_bytes`` take at that speed; both are null when memory is too short to
    measure them. ``compare`` (at least 6 steps) is ``{steps, same_tokens, ours_ms, lmgen_ms, ratio,
    nodes, waits, step_bytes, bandwidth_bytes_per_s, floor_ms, ours_to_floor}``. ``trace`` is as of
    ``talk.trace``. Errors: ``model.not_loaded``, ``talk.busy``.
    """
    return await app.model.benchmark(steps=p.steps, floor=True, compare=p.compare, trace=p.trace)


async def delete(app: App, _caller: Caller, p: DeleteParams) -> dict[str, Any]:
    """Delete a model's repositories from the Hugging Face cache, and forget its downloads.

    A paused or failed download of it goes with its partial files, and so do its quantised copies.
    Result: ``{deleted: [{repo, revision, bytes}], files: [{path, bytes}], freed_bytes, dry_run}``;
    ``files`` are partial ones, by their path in the cache, and copies, by their absolute path.
    Errors: ``model.not_found``, ``model.in_use``.
    """
    return _plain(await app.disposal.delete(p.model, p.quality, dry_run=p.dry_run))


async def prune(app: App, _caller: Caller, p: PruneParams) -> dict[str, Any]:
    """Delete what is old or left over in the repositories of known models and of downloads.

    That is: revisions that no ref names, where one names another, and no download is for; partial
    files that no download wants; what huggingface_hub left half-fetched, and what no revision shows
    any more, a day old and not locked.
    And quantised copies whose source is gone or has changed, or that were never finished. What is
    loaded or being downloaded is left out. Result: as of ``model.delete``.
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
