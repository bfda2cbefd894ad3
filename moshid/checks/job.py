"""The installed job: launchd or systemd, and on macOS the app bundle with the microphone's key."""

from __future__ import annotations

from moshid.checks.check import Check, Machine
from moshid.install import Host
from moshid.service import bundle


def check_job(machine: Machine) -> list[Check]:
    """Whether moshid is started at login."""
    manager = Host(platform=machine.platform, env=machine.env, runner=machine.runner).manager()
    if not manager.file.exists():
        seen = f"not installed ({manager.name})"
        return [Check("service", "ok", seen, "To start it at every login: moshid install.")]
    active, said = manager.state()
    if active:
        return [Check("service", "ok", f"{manager.name}: {said}")]
    todo = "moshid install loads it again, and says what hinders it."
    return [Check("service", "warn", f"{manager.file}, but {manager.name} says: {said}", todo)]


def check_bundle(machine: Machine) -> list[Check]:
    """macOS: the bundle that may ask for the microphone. Elsewhere there is none to check."""
    if machine.platform != "darwin":
        return []
    app = bundle.app_path(machine.settings.home)
    info = bundle.read_info(app)
    if info is None:
        todo = "moshid install builds it. In a terminal, the terminal's own permission counts."
        return [Check("microphone", "ok", "no app bundle", todo)]
    if not info.get("NSMicrophoneUsageDescription"):
        return [Check("microphone", "fail", f"{app} lacks the key", "moshid install mends it.")]
    ran = machine.runner.run(["codesign", "--verify", "--strict", str(app)])
    if not ran.ok:
        todo = f"Delete {app}, then: moshid install."
        return [Check("microphone", "fail", f"{app} is not signed: {ran.said}", todo)]
    return [Check("microphone", "ok", f"{app}, signed by {info.get('MoshidSignedBy')!r}")]
