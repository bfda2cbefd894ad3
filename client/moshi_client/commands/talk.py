"""``talk``: speak with the model, by microphone and speaker or by files."""

from __future__ import annotations

from moshi_client import keys, places, sound_check, targets
from moshi_client import pipes as streams
from moshi_client.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ConnectionLost,
    RemoteError,
    UsageError,
)
from moshi_client.keys import Keyboard
from moshi_client.pipes import Pipes
from moshi_client.talk_view import TalkView

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]

SAMPLING = (
    *("text_temperature", "text_top_k", "text_top_p"),
    *("text_repetition_penalty", "text_repetition_window"),
    *("audio_temperature", "audio_top_k", "audio_top_p"),
)

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
    add_arguments(parser)
    parser.add_argument(
        "--follow", action="store_true", help="with --json: one event a line as well"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say what talk is started."""
    add = parser.add_argument
    add("--model", metavar="M", help="a catalogue name or a Hub repository")
    targets.add_quality(parser)
    add("--input", metavar="DEV", help="microphone, by index or name (see devices)")
    add("--output", metavar="DEV", help="speaker, by index or name")
    add(
        "--in",
        dest="in_file",
        metavar="FILE",
        help="a sound file in place of the microphone; -: raw PCM from stdin (s16le, mono, 24 kHz)",
    )
    add(
        "--out",
        dest="out_file",
        metavar="FILE",
        help="a sound file in place of the speaker, its format by its suffix; -: raw PCM to "
        "stdout, and the transcript to stderr",
    )
    add("--fast", action="store_true", default=None, help="with files: not at real time")
    add("--seconds", type=targets.seconds, metavar="N", help="stop after so long")
    add("--record", metavar="DIR", help="keep both sides' sound and the transcript there")
    add("--engine", choices=("moshi", "echo"), help="echo: a sound check without any model")
    _add_hearing(parser)
    add(
        "--seed", type=targets.seed, metavar="N", help="of the sampling (default: random, reported)"
    )
    _add_sampling(parser)
    targets.add_keep_alive(parser)
    add("--yes", action="store_true", help="fetch the model without asking, whatever its size")


def _add_hearing(parser: argparse.ArgumentParser) -> None:
    """What stands between the microphone and the model. Without a flag the daemon decides."""
    add = parser.add_argument
    add(
        "--echo-cancel",
        action="store_true",
        default=None,
        help="even where the output's name says headphones",
    )
    add(
        "--no-echo-cancel",
        dest="echo_cancel",
        action="store_false",
        default=None,
        help="for headphones whose name does not say so",
    )
    add("--noise-suppression", action="store_true", default=None, help="take out steady noise")
    add("--auto-gain", action="store_true", default=None, help="bring the voice to an even level")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are drawn, by the field's names. The daemon knows the defaults and the limits."""
    for kind, top_k in (("text", 25), ("audio", 250)):
        parser.add_argument(
            f"--{kind}-temperature",
            type=targets.number,
            metavar="T",
            help="default: 0.8; 0 is greedy",
        )
        parser.add_argument(
            f"--{kind}-top-k", type=int, metavar="K", help=f"default: {top_k}; 0 is all"
        )
        parser.add_argument(
            f"--{kind}-top-p", type=targets.number, metavar="P", help="default: 1, which is all"
        )
    add = parser.add_argument
    add(
        "--text-repetition-penalty",
        type=targets.number,
        metavar="R",
        help="default: 1, which is none",
    )
    add("--text-repetition-window", type=int, metavar="N", help="over so many text tokens (64)")


def _talk(ctx: Context, args: argparse.Namespace) -> int:
    params = start_params(args)
    pipes = _open_pipes(ctx, params)
    connection, _ = ctx.connect(uses_cache=True)
    view = TalkView(ctx, one_a_line=ctx.json and args.follow)
    with connection, pipes:
        try:
            for name in pipes.wanted:
                params[f"{name}_file"] = pipes.make(name)
            _run(ctx, connection, view, params, pipes)
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
    pipes.check()
    if view.status.get("state") == "failed":
        error = view.status.get("error")
        data = error if isinstance(error, dict) else {"message": error}
        raise RemoteError({"message": data.get("message") or "the talk failed", "data": data})
    return EXIT_FAILED if sound_check.is_deaf(view.status.get("verdict")) else EXIT_OK


def _open_pipes(ctx: Context, params: Json) -> Pipes:
    """For what is ``-`` in ``params``; nothing is made yet."""
    wanted = tuple(name for name in ("in", "out") if params.get(f"{name}_file") == "-")
    if "in" in wanted:
        streams.check_in()
    if "out" in wanted:
        streams.check_out()
        if ctx.json:
            raise UsageError("--out - and --json both want stdout", "Name a file for one of them.")
        ctx.out = ctx.err
    return Pipes(ctx.home, wanted)


def _run(ctx: Context, connection: Connection, view: TalkView, params: Json, pipes: Pipes) -> None:
    """The talk from start to end; a Ctrl-C, once it has begun, ends it."""
    try:
        connection.call("events.subscribe", {"topics": list(TOPICS)})
        view.begin(_start(ctx, connection, view, params))
        pipes.begin()
        with Keyboard(use=ctx.live) as keyboard:
            if keyboard.fd is not None:
                ctx.say(keys.LEGEND)
            _follow(ctx, connection, view, keyboard)
        pipes.finish()
    except KeyboardInterrupt:
        if view.session is None:
            raise
        _stop(connection, view)
        pipes.finish()
    except ConnectionLost as e:
        if view.session is None:
            raise
        raise ConnectionLost("the daemon went away, and the talk with it", e.hint) from e


def _follow(ctx: Context, connection: Connection, view: TalkView, keyboard: Keyboard) -> None:
    """Show what happens and do what keys ask, until the talk is over."""
    while not view.is_over:
        if not connection.wait(keyboard.fd):
            if (notification := connection.take()) is not None:
                view.on_notification(*notification)
            continue
        for key in keyboard.read():
            if key == keys.QUIT:
                _stop(connection, view)
                return
            _press(ctx, connection, view, key)


def _press(ctx: Context, connection: Connection, view: TalkView, key: str) -> None:
    changes = keys.wanted(key, view.controls)
    if changes is None:
        return
    try:
        answer = connection.call("talk.set", changes, on_notification=view.on_notification)
    except RemoteError as e:
        if e.kind != "talk.none":  # it is ending just now
            view.end()
            ctx.report(e)
    else:
        view.controls = answer.get("controls") or {}


def start_params(args: argparse.Namespace) -> Json:
    """What talk.start is asked for.

    Raises:
        UsageError: a flag's value cannot be meant.
    """
    params: Json = {"ensure": True}
    params |= targets.given(
        args, "model", "quality", "fast", "seconds", "engine", "echo_cancel", "seed"
    )
    params |= targets.given(args, *SAMPLING, "keep_alive", "noise_suppression", "auto_gain")
    if args.yes:
        params["confirm"] = True
    for name in ("input", "output"):
        device = getattr(args, name)
        if device is not None:
            params[name] = int(device) if device.isdecimal() else device
    for name in ("in_file", "out_file", "record"):
        path = getattr(args, name)
        if path is not None:
            is_stream = path == "-" and name != "record"
            params[name] = path if is_stream else places.absolute(path)
    files = [path for path in (args.in_file, args.out_file) if path and path != "-"]
    if len(files) == 2 and places.is_same_file(*files):
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
