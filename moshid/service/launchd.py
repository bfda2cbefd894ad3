"""The job as a LaunchAgent: rendering, checking, loading by launchctl. Not yet seen on a Mac."""

from __future__ import annotations

import os
import plistlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from moshid.errors import ServiceFailed
from moshid.service import files
from moshid.service.job import kill_after_s
from moshid.service.runner import Ran, Runner, shown
from moshid.settings import Settings

LABEL: Final = "io.github.moshid.daemon"

LOADED_ALREADY: Final = 5
IN_PROGRESS: Final = 37
"""launchd's codes: macOS's EIO and EALREADY."""

BOOTSTRAP_ATTEMPTS: Final = 10
"""bootout returns before the old job has gone; meanwhile bootstrap answers one of them."""

RETRY_INTERVAL_S: Final = 0.5


class Launchd:
    """launchd in the user's graphical session."""

    name = "launchd"
    log = "launchd.log in the home"

    def __init__(
        self,
        runner: Runner,
        env: Mapping[str, str],
        *,
        uid: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._runner = runner
        self._domain = f"gui/{os.getuid() if uid is None else uid}"
        self._sleep = sleep
        agents = Path(env.get("HOME", "~")).expanduser() / "Library" / "LaunchAgents"
        self.file = agents / f"{LABEL}.plist"

    def render(
        self, settings: Settings, program: Sequence[str], environment: Mapping[str, str]
    ) -> bytes:
        """The plist's content."""
        job = _filled(
            plistlib.loads(files.template(f"{LABEL}.plist.in")), {"@HOME@": str(settings.home)}
        )
        job["ProgramArguments"] = list(program)
        job["EnvironmentVariables"] = dict(environment)
        job["ExitTimeOut"] = kill_after_s(settings)
        return plistlib.dumps(job, sort_keys=False)

    def check(self, content: bytes, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Read the plist back: the same program and environment must come out.

        Raises:
            ServiceFailed: they do not, or a placeholder was left.
        """
        job = plistlib.loads(content)
        if (
            job["Label"] != LABEL
            or job["ProgramArguments"] != list(program)
            or job["EnvironmentVariables"] != dict(environment)
            or b">@" in content
        ):
            raise ServiceFailed(f"the plist does not say what it should:\n{content.decode()}")

    def verify(self) -> list[str]:
        """Let plutil look at the written file, where it is; returns its complaints."""
        if self._runner.which("plutil") is None:
            return []
        ran = self._runner.run(["plutil", "-lint", str(self.file)])
        return [] if ran.ok else [f"plutil: {ran.said}"]

    def load(self, *, changed: bool) -> list[str]:
        """Load the job, in place of one that is loaded already; start it.

        Raises:
            ServiceFailed: no launchctl, or it refuses.
        """
        self._must_exist(f"launchctl bootstrap {self._domain} {self.file}")
        ran = self._bootstrap()
        if _failed_with(LOADED_ALREADY, ran):
            if not changed:
                return self._start()
            self._runner.run(["launchctl", "bootout", f"{self._domain}/{LABEL}"])
            ran = self._bootstrap_when_gone()
        if not ran.ok:
            self._load_the_old_way(ran)
        return ["loaded; it starts now and at every login"]

    def unload(self) -> list[str]:
        """Unload the job and remove its file.

        Raises:
            ServiceFailed: no launchctl; the file is removed by then.
        """
        try:
            self._must_exist(f"launchctl bootout {self._domain}/{LABEL}")
            ran = self._runner.run(["launchctl", "bootout", f"{self._domain}/{LABEL}"])
            if not ran.ok and self.file.exists():
                self._runner.run(["launchctl", "unload", "-w", str(self.file)])
        finally:
            self.file.unlink(missing_ok=True)
        return ["unloaded"]

    def state(self) -> tuple[bool, str]:
        """Whether the job is loaded, and what launchd says of it."""
        if self._runner.which("launchctl") is None:
            return False, "no launchctl here"
        ran = self._runner.run(["launchctl", "print", f"{self._domain}/{LABEL}"])
        lines = (line.strip() for line in ran.stdout.splitlines())
        wanted = ("state =", "pid =", "last exit code =")
        said = ", ".join(line for line in lines if line.startswith(wanted))
        return ran.ok, said or ran.said

    def pid(self) -> int | None:
        """The process that launchd runs; None: it does not say."""
        ran = self._runner.run(["launchctl", "print", f"{self._domain}/{LABEL}"])
        found = re.search(r"^\s*pid = (\d+)$", ran.stdout, re.MULTILINE)
        return int(found[1]) if found else None

    def _bootstrap(self) -> Ran:
        return self._runner.run(["launchctl", "bootstrap", self._domain, str(self.file)])

    def _bootstrap_when_gone(self) -> Ran:
        for _ in range(BOOTSTRAP_ATTEMPTS):
            ran = self._bootstrap()
            if not any(_failed_with(code, ran) for code in (LOADED_ALREADY, IN_PROGRESS)):
                return ran
            self._sleep(RETRY_INTERVAL_S)
        return ran

    def _start(self) -> list[str]:
        """Start the job that is loaded: after `moshi-client stop` it is, but does not run."""
        argv = ["launchctl", "kickstart", f"{self._domain}/{LABEL}"]
        ran = self._runner.run(argv)
        if not (ran.ok or _failed_with(IN_PROGRESS, ran)):  # else it runs
            raise ServiceFailed(
                f"launchd does not start the job: {ran.said}", hint=f"By hand: {shown(argv)}"
            )
        return ["loaded already, nothing changed; it runs"]

    def _load_the_old_way(self, refused: Ran) -> None:
        argv = ["launchctl", "load", "-w", str(self.file)]
        ran = self._runner.run(argv)
        # `load` ends with 0 even when it fails, and says so.
        if not ran.ok or "failed" in ran.stderr.lower():
            raise ServiceFailed(
                f"launchd refused the job: {refused.said}; {ran.said}",
                hint=f"By hand: {shown(['launchctl', 'bootstrap', self._domain, str(self.file)])}",
            )

    def _must_exist(self, by_hand: str) -> None:
        if self._runner.which("launchctl") is None:
            raise ServiceFailed(
                "launchctl is not there, so nothing starts moshid at login",
                hint=f"On macOS, by hand: {by_hand}",
            )


def _failed_with(code: int, ran: Ran) -> bool:
    """As in ``Bootstrap failed: 5: Input/output error``."""
    return not ran.ok and f": {code}:" in ran.stderr


def _filled(value: Any, placeholders: Mapping[str, str]) -> Any:
    """``value`` with the placeholders in its strings replaced, at any depth."""
    if isinstance(value, dict):
        return {name: _filled(item, placeholders) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, placeholders) for item in value]
    if isinstance(value, str):
        for placeholder, text in placeholders.items():
            value = value.replace(placeholder, text)
    return value
