"""The probe that plays and listens on JACK: what a test relies on must not hang with its server."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from moshid.demo import probe as probe_module
from moshid.demo.probe import JackProbe
from tests.fakes.jack_rig import jack_server


def test_a_server_that_hangs_is_killed_rather_than_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "LEAVE_S_MAX", 0.5)
    with jack_server(tmp_path, monkeypatch) as server:
        probe = JackProbe(server)
        server.signal(signal.SIGSTOP)
        probe.close()
        server.start_again()
        with JackProbe(server) as again:
            assert again.rate == server.rate
