"""Fixtures that many tests share: the demo checkpoint, built once and kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moshid import mlx_setup
from moshid.demo import checkpoint

REPO_ROOT = Path(__file__).resolve().parent.parent


mlx_setup.prepare()  # for the tests that run plain moshi_mlx, without a worker


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The folder of the demo checkpoint; never write into it.

    It stays between runs, in ``$MOSHID_TEST_CACHE`` or in ``.cache`` below the repository.
    """
    cache = Path(os.environ.get("MOSHID_TEST_CACHE") or REPO_ROOT / ".cache")
    folder = cache / "demo-checkpoint"
    checkpoint.build(folder)
    return folder
