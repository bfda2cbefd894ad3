"""A private JACK server for a test, made known to the processes that the test starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moshid.demo.probe import JackProbe
from moshid.demo.sound import JackServer


@contextmanager
def jack_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, rate: int = 24_000, period: int = 240
) -> Iterator[JackServer]:
    """A running server that child processes find through the environment."""
    with JackServer(folder, rate=rate, period=period) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def patch_back(probe: JackProbe) -> None:
    """The program's speaker goes into its own microphone, and nothing else does: a loop of 0 dB."""
    probe.attach(hears=False)
    client = probe._client
    (source, *_) = probe._find(is_output=True)
    for target in probe._find(is_input=True):
        for other in client.get_all_connections(target):
            client.disconnect(other, target)
        client.connect(source, target)
