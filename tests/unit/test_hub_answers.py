"""What a Hub's refusal becomes for the user."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import ClassVar

import pytest
import requests
from huggingface_hub import constants

from moshid.downloads.hub import SAID_MAX, HfHub, HubPlace, translate
from moshid.downloads.interim import Waiting
from moshid.errors import BadSettings, DownloadUnauthorized
from tests.fakes.raw_web import RawWeb, answer
from tests.fakes.repos import REPO


def test_what_a_hub_says_is_shown_without_what_would_move_a_terminals_cursor() -> None:
    response = requests.Response()
    response.status_code = 451
    response.headers["X-Error-Message"] = "\x1b[2Jnot \x07here" + "!" * 1000
    told = translate(requests.HTTPError(response=response), "org/name")
    assert "[2Jnot here!" in told.message
    assert told.message.isprintable()
    assert len(told.message) < SAID_MAX + 100


@pytest.mark.timeout(20)
def test_a_token_that_is_a_fifo_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "token")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    hub = HfHub(HubPlace("http://127.0.0.1:9", tmp_path))
    try:
        with pytest.raises(DownloadUnauthorized, match="is a FIFO"):
            asyncio.run(hub.head("org/x", "main", "a"))
    finally:
        hub.close()


class Counting(Waiting):
    """Counts what comes for the questions."""

    came_bytes: ClassVar[list[int]] = []

    def came(self, size_bytes: int) -> None:
        self.came_bytes.append(size_bytes)
        super().came(size_bytes)


class Counted(HfHub):
    """Its answers are counted."""

    waiting = Counting


@pytest.mark.asyncio
async def test_a_listing_is_waited_for_as_it_comes(tmp_path: Path) -> None:
    """What its thread reads is told to who waits for it (``test_interim`` has what he does)."""
    commit, names = "c0ffee" + "0" * 34, [f"part-{n}.bin" for n in range(5000)]
    told = {"id": REPO, "_id": "x", "modelId": REPO, "sha": commit}
    body = json.dumps(told | {"siblings": [{"rfilename": name} for name in names]}).encode()
    Counting.came_bytes.clear()
    async with RawWeb(lambda _asked: answer(200, body=body)) as web:
        hub = Counted(HubPlace(web.url(""), tmp_path, token=False))
        try:
            assert (await hub.listing(REPO, commit)).paths == tuple(names)
        finally:
            hub.close()
    assert sum(Counting.came_bytes) > len(body)


def test_a_cache_in_a_folder_that_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "x/hub")
    with pytest.raises(BadSettings, match="x/hub is relative to a folder that is gone"):
        HubPlace.from_environment()
