"""The commands, one idea a module. Each module has ``register(commands)``."""

from __future__ import annotations

from moshi_client.commands import (
    bench,
    call,
    devices,
    doctor,
    download,
    events,
    help,
    jobs,
    logs,
    models,
    status,
    stop,
    talk,
    tui,
    verify,
)

MODULES = (
    status,
    talk,
    download,
    jobs,
    verify,
    models,
    bench,
    devices,
    events,
    call,
    help,
    logs,
    tui,
    doctor,
    stop,
)
"""In the order in which ``--help`` lists their commands."""
