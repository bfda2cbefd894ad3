"""Some deeds of the soak: kills, faults of line and disk, two daemons on one cache."""

from __future__ import annotations

from tests.bench.soak_downloads import soak
from tests.fakes.download_deeds import QUICK


def test_downloads_survive_what_befalls_them() -> None:
    """The long version: ``python -m tests.bench.soak_downloads``."""
    outcome = soak(60.0, seed=4, deeds_max=6, size_bytes=2_000_000, names=QUICK)
    assert outcome.faults == []
    assert outcome.done["kills"] > 1
