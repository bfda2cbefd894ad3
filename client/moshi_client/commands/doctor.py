"""``doctor``: the client's side of things; the daemon's side is `moshid doctor`."""

from __future__ import annotations

import os
import time

from moshi_client import __version__, places, render, sound_check
from moshi_client.errors import EXIT_FAILED, EXIT_OK, ClientError, RemoteError
from moshi_client.talk_view import FINAL_STATES
from moshi_client.wire import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]


SOUND_CHECK_S = 3.2
"""Three chirps and what comes back of them."""

SOUND_CHECK_S_MAX = 20.0


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "doctor",
        _doctor,
        "check the way from here to the daemon, microphone and speaker",
        more="The speaker gives three soft chirps. The machine itself is checked by "
        "`moshid doctor`.",
    )
    parser.add_argument("--no-sound", action="store_true", help="leave out microphone and speaker")


def _doctor(ctx: Context, args: argparse.Namespace) -> int:
    checks: list[Json] = []
    exit_code = EXIT_OK
    try:
        _check_socket(ctx, checks)
        connection, server = ctx.connect()
        with connection:
            _check_daemon(ctx, server, checks)
            if not args.no_sound:
                _check_sound(ctx, connection, checks)
    except ClientError as e:
        checks.append(_check("daemon", "fail", e.message, e.hint))
        exit_code = e.exit_code
    if exit_code == EXIT_OK and any(c["state"] == "fail" for c in checks):
        exit_code = EXIT_FAILED
    rows = [(c["state"], c["name"], c["seen"]) for c in checks]
    todo = [f"{c['name']}: {c['todo']}" for c in checks if c["todo"]]
    text = render.table(("", "CHECK", "SEEN"), rows)
    ctx.emit({"ok": exit_code == EXIT_OK, "checks": checks}, "\n".join([text, *todo]))
    ctx.say("the machine, the cache and the model: moshid doctor")
    return exit_code


def _check(name: str, state: str, seen: str, todo: str | None = None) -> Json:
    return {"name": name, "state": state, "seen": seen, "todo": todo}


def _check_socket(ctx: Context, checks: list[Json]) -> None:
    path = ctx.socket
    size = len(os.fsencode(path))
    seen = f"{path} ({size} of {places.SOCKET_PATH_LIMIT_BYTES} bytes)"
    checks.append(_check("socket", "ok", seen))


def _check_daemon(ctx: Context, server: Json, checks: list[Json]) -> None:
    checks.append(_check("daemon", "ok", f"pid {server.get('pid')}, home {server.get('home')}"))
    low, high = server.get("min_protocol"), server.get("protocol")
    checks.append(_check("protocol", "ok", f"{PROTOCOL}; the daemon speaks {low} to {high}"))
    same = server.get("version") == __version__
    versions = f"client {__version__}, daemon {server.get('version')}"
    todo = None if same else "Restart the daemon after an upgrade: moshi-client stop, moshid run."
    checks.append(_check("version", "ok" if same else "warn", versions, todo))
    theirs, ours = str(server.get("hf_cache")), places.hf_cache(ctx.env)
    shared = os.path.realpath(theirs) == os.path.realpath(ours)
    todo = None if shared else "Set HF_HOME alike for both, then `moshid install` again."
    caches = ours if shared else f"here {ours}, the daemon's {theirs}"
    checks.append(_check("cache", "ok" if shared else "warn", caches, todo))
    log_file = str(server.get("log_file"))
    readable = os.access(log_file, os.R_OK)
    todo = None if readable else "Look at the rights of the home directory."
    checks.append(_check("log", "ok" if readable else "warn", log_file, todo))


def _check_sound(ctx: Context, connection: Connection, checks: list[Json]) -> None:
    """A few seconds of a talk without a model."""
    ctx.say("listening, and three soft chirps ...")
    try:
        connection.call("events.subscribe", {"topics": ["talk"]})
        params = {"engine": "echo", "seconds": SOUND_CHECK_S}
        started = connection.call("talk.start", params, timeout_s=SOUND_CHECK_S_MAX)
        status = _await_end(connection, started["session"])
    except RemoteError as e:
        known = e.kind in ("talk.busy", "audio.no_device")  # a machine may have no sound
        checks.append(_check("sound", "warn" if known else "fail", e.message, e.hint))
        return
    if error := status.get("error"):
        checks.append(_check("sound", "fail", str(error.get("message")), error.get("hint")))
    elif not (found := sound_check.findings(status.get("verdict") or {})):
        checks.append(_check("sound", "fail", "the sound check did not end", "See its log."))
    else:
        checks += [_check(*finding) for finding in found]


def _await_end(connection: Connection, status: Json) -> Json:
    """The talk's last status; the newest one, if it does not end in time."""
    deadline_s = time.monotonic() + SOUND_CHECK_S_MAX
    while status.get("state") not in FINAL_STATES:
        taken = connection.take(max(0.0, deadline_s - time.monotonic()))
        if taken is None:
            return {}
        data = taken[1].get("data") or {}
        if data.get("session") == status.get("session"):
            status = data.get("status") or status
    return status
