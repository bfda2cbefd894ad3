"""``talk``: speak with the model, by microphone and speaker or by files."""

from __future__ import annotations

from moshi_client import places, targets
from moshi_client.errors import EXIT_INTERRUPTED, EXIT_OK, ConnectionLost, RemoteError, UsageError
from moshi_client.talk_view import TalkView

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]

TOPICS = ("talk", "talk.text", "talk.level", "download", "model")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "talk",
        _talk,
        "speak with the model",
        more="Ctrl-C stops the talk. A model that is not on disk is fetched first; Ctrl-C then "
        "leaves the download to the daemon. The transcript goes to stdout.",
    )
    add = parser.add_argument
    add("--model", metavar="M", help="a catalogue name or a Hub repository")
    targets.add_quality(parser)
    add("--input", metavar="DEV", help="microphone, by index or name (see devices)")
    add("--output", metavar="DEV", help="speaker, by index or name")
    add("--in", dest="in_file", metavar="FILE", help="a sound file in place of the microphone")
    add("--out", dest="out_file", metavar="FILE", help="a WAV file in place of the speaker")
    add("--fast", action="store_true", default=None, help="with files: not at real time")
    add("--seconds", type=float, metavar="N", help="stop after so long")
    add("--record", metavar="DIR", help="keep both sides and the transcript there (not built)")
    add("--engine", choices=("moshi", "echo"), help="echo: a sound check without any model")
    add(
        "--no-echo-cancel",
        dest="echo_cancel",
        action="store_false",
        default=None,
        help="for headphones",
    )
    add("--seed", type=int, metavar="N", help="of the sampling (default: random, reported)")
    add("--text-temperature", type=float, metavar="T", help="default: 0.8")
    add("--audio-temperature", type=float, metavar="T", help="default: 0.8")
    add("--yes", action="store_true", help="fetch the model without asking, whatever its size")
    add("--follow", action="store_true", help="with --json: one event a line as well")


def _talk(ctx: Context, args: argparse.Namespace) -> int:
    params = _params(args)
    connection, _ = ctx.connect(uses_cache=True)
    view = TalkView(ctx, one_a_line=ctx.json and args.follow)
    with connection:
        try:
            _run(ctx, connection, view, params)
        except KeyboardInterrupt:
            view.end()
            ctx.say("interrupted; a download that has begun goes on: moshi-client downloads")
            return EXIT_INTERRUPTED
        finally:
            view.end()
            if view.session is not None:
                ctx.say(view.summary())
                if ctx.json:
                    ctx.emit(view.result(), "")
    if view.status.get("state") == "failed":
        error = view.status.get("error")
        data = error if isinstance(error, dict) else {"message": error}
        raise RemoteError({"message": data.get("message") or "the talk failed", "data": data})
    return EXIT_OK


def _run(ctx: Context, connection: Connection, view: TalkView, params: Json) -> None:
    """The talk from start to end; a Ctrl-C, once it has begun, ends it."""
    try:
        connection.call("events.subscribe", {"topics": list(TOPICS)})
        view.begin(_start(ctx, connection, view, params))
        notifications = connection.follow()
        while not view.is_over:
            view.on_notification(*next(notifications))
    except KeyboardInterrupt:
        if view.session is None:
            raise
        _stop(connection, view)
    except ConnectionLost as e:
        if view.session is None:
            raise
        raise ConnectionLost("the daemon went away, and the talk with it", e.hint) from e


def _params(args: argparse.Namespace) -> Json:
    params: Json = {"ensure": True}
    params |= targets.given(
        args, "model", "quality", "fast", "seconds", "engine", "echo_cancel", "seed"
    )
    params |= targets.given(args, "text_temperature", "audio_temperature")
    if args.yes:
        params["confirm"] = True
    for name in ("input", "output"):
        device = getattr(args, name)
        if device is not None:
            params[name] = int(device) if device.isdigit() else device
    for name in ("in_file", "out_file", "record"):
        path = getattr(args, name)
        if path == "-":
            raise UsageError(
                "--in - and --out - (raw PCM through pipes) are not built yet", "Name a file."
            )
        if path is not None:
            params[name] = places.absolute(path)
    if args.in_file and args.out_file and places.is_same_file(args.in_file, args.out_file):
        raise UsageError(
            "--in and --out name the same file",
            "Give --out another one: what is said would be lost.",
        )
    return params


def _start(ctx: Context, connection: Connection, view: TalkView, params: Json) -> Json:
    """Start the talk, asking first when the daemon wants a yes to a big download."""
    try:
        return connection.call("talk.start", params, on_notification=view.on_notification)
    except RemoteError as e:
        wanted = e.kind == "talk.confirm_download"
        if not wanted or not ctx.ask(f"{e.message}\nDownload it now?"):
            raise
    confirmed = params | {"confirm": True}
    return connection.call("talk.start", confirmed, on_notification=view.on_notification)


def _stop(connection: Connection, view: TalkView) -> None:
    try:
        status = connection.call("talk.stop", on_notification=view.on_notification)
    except RemoteError as e:
        if e.kind != "talk.none":  # it has just ended by itself
            raise
    else:
        view.status = view.status | status
