"""The probe that plays and listens on JACK: what a test relies on must not hang with its server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from moshid.demo import probe as probe_module
from moshid.demo.probe import JackProbe
from moshid.demo.sound import JackServer
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


def test_a_server_is_never_another_ones_though_its_own_is_slow_to_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jackd whose name is taken says so when it gets to it; the other one answers at once."""
    with jack_server(tmp_path, monkeypatch) as other:
        slow = tmp_path / "bin" / "jackd"
        slow.parent.mkdir()
        real = shutil.which("jackd")
        slow.write_text(f'#!/bin/sh\n[ "$2" = {other.name} ] && exec sleep 60\nexec {real} "$@"\n')
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
        with JackServer(tmp_path) as server:
            assert server.name != other.name
