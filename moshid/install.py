"""``moshid install`` and ``uninstall``: the daemon as a job of launchd or systemd.

Owns the order: choose the environment, write the file, check it, load it. What exists is brought
up to date; uninstalling leaves every byte of data.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from moshid import home, settings
from moshid.errors import MoshidError, ServiceFailed
from moshid.service import answering, bundle, files
from moshid.service.environment import job_environment
from moshid.service.launchd import Launchd
from moshid.service.runner import Runner, SystemRunner
from moshid.service.systemd import Systemd
from moshid.settings import Settings

ARGUMENTS: Final = ("-P", "-m", "moshid", "run")
"""To the interpreter; -P keeps the job's working directory off the import path."""

PATIENCE_S: Final = 30.0
"""For a daemon to answer: a second or two, but for a busy machine or a ledger to be rebuilt."""

POLL_INTERVAL_S: Final = 0.1

Manager = Launchd | Systemd
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine that is installed on: its platform, its shell's environment, its programs."""

    platform: str = sys.platform
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    runner: Runner = field(default_factory=SystemRunner)
    python: str = sys.executable
    hello: Callable[[Settings], dict[str, Any] | None] = answering.hello
    patience_s: float = PATIENCE_S

    def manager(self) -> Manager:
        """What starts jobs here."""
        if self.platform == "darwin":
            return Launchd(self.runner, self.env)
        return Systemd(self.runner, self.env)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``install`` and ``uninstall``, besides those of the settings."""
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    parser.add_argument(
        "--sign",
        default=bundle.AD_HOC,
        metavar="IDENTITY",
        help="macOS: sign the app bundle by this certificate (default: ad hoc)",
    )


def run_install(args: argparse.Namespace) -> int:
    """``moshid install``; returns the exit code."""
    return _exit_code(
        lambda: install(settings.from_arguments(args), dry_run=args.dry_run, sign=args.sign)
    )


def run_uninstall(args: argparse.Namespace) -> int:
    """``moshid uninstall``; returns the exit code."""
    return _exit_code(lambda: uninstall(settings.from_arguments(args), dry_run=args.dry_run))


def install(
    configured: Settings,
    *,
    dry_run: bool = False,
    sign: str = bundle.AD_HOC,
    host: Host | None = None,
    say: Say | None = None,
) -> None:
    """Write the job's file, check it and load it, saying each step.

    Raises:
        ServiceFailed: a step failed; what was written stays, and the hint names the command.
        HomeUnusable: the home cannot be made or written; nothing has been written.
    """
    host, say = host or Host(), say or _say
    manager = host.manager()
    environment, warnings = job_environment(configured, host.env)
    for warning in warnings:
        say(f"warning: {warning}")
    if not dry_run:
        home.prepare(configured)  # else the job could not start
    program = [host.python, *ARGUMENTS]
    if isinstance(manager, Launchd):
        interpreter = bundle.find_interpreter(host.runner, host.python)
        app = bundle.app_path(configured.home)
        program[0] = str(bundle.executable_of(app))
        environment |= interpreter.environment
        if not dry_run:
            _build_bundle(configured, interpreter, host, sign, say)
    content = manager.render(configured, program, environment)
    manager.check(content, program, environment)
    if dry_run:
        say(f"would write {manager.file}:\n{content.decode().rstrip()}")
        return
    _write_and_load(manager, content, say)
    say(f"it answers, process {_answering_process(configured, host, manager)}")
    say("see it: moshi-client status")


def _write_and_load(manager: Manager, content: bytes, say: Say) -> None:
    changed = files.write_atomically(manager.file, content)
    say(f"{manager.file}: {'written' if changed else 'as it was'}")
    for complaint in manager.verify():
        say(f"warning: {complaint}")
    for line in manager.load(changed=changed):
        say(f"{manager.name}: {line}")


def _answering_process(configured: Settings, host: Host, manager: Manager) -> int:
    """Wait until the job's daemon answers: what is loaded may end at once, or need a moment."""
    deadline = time.monotonic() + host.patience_s
    while (hello := host.hello(configured)) is None:
        if time.monotonic() >= deadline:
            raise ServiceFailed(
                f"{manager.name} has started it, but it does not answer",
                hint=f"What it says: {manager.log}, and moshi-client logs.",
            )
        time.sleep(POLL_INTERVAL_S)
    if manager.pid() not in (None, hello["pid"]):
        raise ServiceFailed(
            f"the daemon that runs, process {hello['pid']}, is not {manager.name}'s: that one "
            "cannot start beside it",
            hint="Stop the other one: moshi-client stop. Then again: moshid install.",
        )
    return int(hello["pid"])


def _build_bundle(
    configured: Settings, interpreter: bundle.Interpreter, host: Host, sign: str, say: Say
) -> None:
    app = bundle.app_path(configured.home)
    built = bundle.build(app, interpreter, host.runner, identity=sign)
    say(f"{app}: {'built and signed' if built else 'stands already'}")


def uninstall(
    configured: Settings,
    *,
    dry_run: bool = False,
    host: Host | None = None,
    say: Say | None = None,
) -> None:
    """Unload the job and remove its files, saying each step; data stays.

    Raises:
        ServiceFailed: the job could not be unloaded; its file is removed all the same.
    """
    host, say = host or Host(), say or _say
    manager = host.manager()
    app = bundle.app_path(configured.home)
    there = [path for path in (manager.file, app) if path.exists()]
    if not there:
        say("not installed")
    elif dry_run:
        for path in there:
            say(f"would remove {path}")
    else:
        try:
            if app.exists():
                shutil.rmtree(app)
            for path in there:
                say(f"removing {path}")
            for line in manager.unload():
                say(f"{manager.name}: {line}")
        except OSError as e:
            why = f"{e.filename} cannot be removed: {e.strerror}"
            raise ServiceFailed(why, hint=settings.MOVE_AWAY) from e
    say(f"kept: {configured.home} (state and logs), and the models in the Hugging Face cache")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
    except MoshidError as e:
        sys.stderr.write(f"moshid: {e.message}\nhint: {e.hint}\n")
        return 1
    return 0
