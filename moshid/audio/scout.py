"""Looks at the sound devices: ``python -m moshid.audio.scout FD LOGLEVEL``. Owns the process.

PortAudio sees the devices of the moment at which it starts, and its JACK part hangs or aborts when
the server has gone. So this process, which carries no sound, starts PortAudio for each look and
ends it again; if it is lost at that, another one is made. Where only the sound server's defaults
are followed they alone are asked for: PortAudio's start opens each of ALSA's devices, both ways.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from moshid.audio import request as asked
from moshid.errors import InternalError, MethodNotFound, MoshidError, NoDevice
from moshid.worker_base import Control, Request, connect

if TYPE_CHECKING:
    from moshid.audio.device_list import Direction

log = logging.getLogger(__name__)

PACTL: Final = ("pactl", "info")
PACTL_TIMEOUT_S: Final = 2.0
PACTL_LINES: Final = {"Default Source": "input", "Default Sink": "output"}


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``look``: find these devices, by name or index; None is the system's default."""

    input: str | int | None = None
    output: str | int | None = None
    exact: bool = False
    """Whether a name is all of ``name, host API``."""


def look(params: Look) -> dict[str, Any]:
    """``{input, output, system}``: the devices meant, null where there is none, and the names of
    the sound server's own defaults ``{input, output}`` behind ALSA's, where that can be asked."""
    with _quiet(), _port_audio():
        from moshid.audio.device_list import ALSA, Device, find_device

        def find(wanted: str | int | None, direction: Direction) -> Device | None:
            try:
                return find_device(wanted, direction, exact=params.exact)
            except NoDevice:
                return None

        input_, output = find(params.input, "input"), find(params.output, "output")
    behind_alsa = any(d is not None and d.hostapi == ALSA for d in (input_, output))
    return {
        "input": None if input_ is None else input_.to_dict(),
        "output": None if output is None else output.to_dict(),
        "system": _server_defaults() if behind_alsa else {},
    }


@contextlib.contextmanager
def _port_audio() -> Iterator[None]:
    """PortAudio, started afresh and ended again."""
    import sounddevice as sd

    if not sd._initialized:
        sd._initialize()
    try:
        yield
    finally:
        sd._terminate()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what ALSA and JACK print when there is nobody: it is looked for again and again."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _server_defaults() -> dict[str, str]:
    try:
        answer = subprocess.run(
            PACTL,
            capture_output=True,
            timeout=PACTL_TIMEOUT_S,
            env=os.environ | {"LC_ALL": "C"},
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as e:
        log.debug("the sound server's defaults are not known: %s", e)
        return {}
    lines = (line.partition(": ") for line in answer.stdout.decode(errors="replace").splitlines())
    return {PACTL_LINES[key]: name.strip() for key, _, name in lines if key in PACTL_LINES}


def _serve(control: Control, request: Request) -> bool:
    """Answer; False when that was the last."""
    try:
        match request.method:
            case "look":
                with control.activity("look"):
                    control.reply(request, look(asked.parse(request.params, Look)))
            case "defaults":
                asked.parse(request.params, asked.Nothing)
                with control.activity("defaults"):
                    control.reply(request, {"system": _server_defaults()})
            case "shutdown":
                control.reply(request, {})
                return False
            case _:
                raise MethodNotFound(f"the scout has no method {request.method!r}")
    except MoshidError as e:
        control.fail(request, e)
    except Exception:
        log.exception("%s failed", request.method)
        control.fail(request, InternalError(f"scout: {request.method} failed"))
    return True


def main() -> None:
    """Serve the daemon until it says ``shutdown`` or goes away."""
    control = connect()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    control.start()
    going = True
    while going:
        select.select([control.wake_fd], [], [])
        while going and (request := control.take()) is not None:
            going = _serve(control, request)


if __name__ == "__main__":
    main()
