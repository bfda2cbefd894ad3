"""``verify``: read a model's files again and compare them with their digests."""

from __future__ import annotations

from moshi_client import naming, render, targets
from moshi_client.errors import EXIT_FAILED, EXIT_OK, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]

PATIENCE_S = 0.5


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "verify",
        _verify,
        "read a model's files again and compare them with their digests",
        more="Exits 1 when a file is bad, missing or incomplete.",
    )
    parser.add_argument("target", metavar="MODEL|REPO|URL", nargs="?", help="what to verify")
    parser.add_argument("--repair", action="store_true", help="fetch the bad chunks again")


def _verify(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect(uses_cache=True)
    with connection:
        params = _meant(connection, args.target)
        if args.repair:
            params["repair"] = True
        result = _verified(ctx, connection, params, args.target)
    ctx.emit(result, _text(result))
    lacks = _lacks(result)
    if _is_damaged(result) and not args.repair:
        named = f"{args.target} " if args.target else ""
        ctx.say(f"fetch what is bad again: moshi-client verify {named}--repair")
    elif lacks and not _is_finished(result):
        ctx.say(_how_to_go_on(result, args.target))
    return EXIT_OK if result.get("ok") and not lacks else EXIT_FAILED


def _lacking(result: Json) -> list[Json]:
    """The files that are not all there."""
    return [f for f in result["files"] if f.get("missing") or f.get("missing_bytes")]


def _lacks(result: Json) -> bool:
    """Whether there is more to come; a download that stopped early knows no files yet."""
    return bool(_lacking(result)) or not (result["files"] or _is_finished(result))


def _is_damaged(result: Json) -> bool:
    """Whether there is something for --repair; what an unfinished download has not brought yet is
    not."""
    if result.get("ok") or _is_finished(result):
        return not result.get("ok")
    return any(not (f.get("ok") or f.get("missing")) for f in result["files"])


def _is_finished(result: Json) -> bool:
    return result.get("state") in (None, "done")


def _how_to_go_on(result: Json, target: str | None) -> str:
    state = result.get("state")
    if state in ("paused", "failed", "cancelled"):
        return f"the download is {state}; let it go on: moshi-client resume {target or 'JOB'}"
    return f"the download is {state}: verify again when it is done"


def _meant(connection: Connection, target: str | None) -> Json:
    if "://" in (target or ""):
        return {"id": naming.one_job(connection, "verify", str(target))}
    return targets.model_or_repo(target)


def _verified(ctx: Context, connection: Connection, params: Json, target: str | None) -> Json:
    """The report; that reading takes a while is said once it does."""
    import threading

    note = threading.Timer(PATIENCE_S, ctx.say, ("reading every byte; this takes a while",))
    note.start()
    try:
        if params.get("repair"):
            connection.call("events.subscribe", {"topics": ["download"]})
        return connection.call("download.verify", params, on_notification=_waiting(ctx, params))
    except RemoteError as e:
        if e.kind == "download.no_such_job":
            e.message = f"{target or 'the default model'} has not been downloaded"
            if "id" not in params:
                name = f" {target}" if target else ""
                e.hint = e.data["hint"] = f"Fetch it: moshi-client download{name}."
        raise
    finally:
        note.cancel()


def _waiting(ctx: Context, params: Json) -> Callable[[str, Json], None]:
    """Says what a repair waits for, which may be long: room on the disk, its turn, a resume."""
    said = set[str]()

    def heard(_method: str, event: Json) -> None:
        job = (event.get("data") or {}).get("job") or {}
        error = job.get("error") or {}
        waits = job.get("state") == "paused" or (job.get("state") == "queued" and error)
        if not waits or any(
            params.get(key, job.get(key)) != job.get(key) for key in ("id", "repo")
        ):
            return
        words = f"{job.get('repo')} is {job['state']}"
        if error:
            words += f": {error.get('message')}. {error.get('hint')}"
        if words not in said:
            said.add(words)
            ctx.say(words)

    return heard


def _text(result: Json) -> str:
    rows = [(f.get("path"), render.size(f.get("size")), _verdict(f)) for f in result["files"]]
    lines = [render.table(("FILE", "SIZE", "VERDICT"), rows)]
    if result.get("repaired_bytes"):
        chunks = render.count(result.get("repaired_chunks") or 0, "bad chunk")
        lines.append(f"repaired: {chunks}, {render.size(result['repaired_bytes'])} fetched again")
    return "\n".join([*lines, _summary(result)])


def _summary(result: Json) -> str:
    if not _lacks(result):
        return "all files are right" if result.get("ok") else "some files are wrong"
    if _is_finished(result):
        return "some files are wrong"
    if not result["files"]:
        return "nothing is there yet"
    rest = "some of what is there is wrong" if _is_damaged(result) else "what is there is right"
    return f"{render.count(len(_lacking(result)), 'file')} not all there yet; {rest}"


def _verdict(file: Json) -> str:
    if file.get("missing"):
        return "missing"
    if file.get("missing_bytes"):
        rest = "what is there is right" if file.get("ok") else _bad(file)
        return f"incomplete, {render.size(file['missing_bytes'])} missing; {rest}"
    if file.get("ok"):
        mended = file.get("mended_chunks") or []
        return f"ok, mended {_chunks(mended, 'chunk')}" if mended else "ok"
    return _bad(file)


def _bad(file: Json) -> str:
    bad = file.get("bad_chunks") or []
    return _chunks(bad, "bad chunk") if bad else "bad"


def _chunks(indices: list[int], noun: str) -> str:
    """How many, and which, counted from 0."""
    return f"{render.count(len(indices), noun)}: {', '.join(map(str, indices))}"
