"""The callback in Python, looked at in its code and while it runs: it may hold nobody up."""

from __future__ import annotations

import dis
import tracemalloc
from collections.abc import Iterator
from types import CodeType
from typing import Any

import numpy as np
import pytest

from moshid.audio.callback_python import PythonCallback
from moshid.audio.ring import Ring

BLOCK = 8_192
BLOCKS = 500
SOUND_BYTES = BLOCK * 4
"""One channel of a block."""

ALLOWED = {
    *("_copy_in", "_copy_out", "_mark", "_mono", "heard", "to_play", "xruns", "stamp_ns"),
    *("write", "read_into", "multiply", "add", "out", "np", "len", "min", "bool", "range"),
    *("_channels", "_share", "_part", "time", "monotonic_ns"),
    *("_capacity", "written", "read_total", "overrun", "underrun", "_data"),
}
"""Every name that the callback and the rings' copying may use."""


def codes() -> Iterator[CodeType]:
    for name in ("hear_and_play", "hear", "play", "_copy_in", "_copy_out", "_mark"):
        yield getattr(PythonCallback, name).__code__
    yield Ring.write.__code__
    yield Ring.read_into.__code__


@pytest.fixture
def callback() -> PythonCallback:
    """Without a stream, as if its stream had been opened."""
    made = object.__new__(PythonCallback)
    made._channels, made._share = 2, np.float32(0.5)
    made._mono, made._part = np.zeros((2, 96_000), dtype=np.float32)
    made.heard, made.to_play = Ring(96_000), Ring(96_000)
    made.xruns = made.stamp_ns = 0
    return made


def test_it_names_no_lock_no_log_no_queue_and_opens_nothing() -> None:
    for code in codes():
        assert set(code.co_names) <= ALLOWED, code.co_name
        made = {i.opname for i in dis.get_instructions(code)}
        assert not made & {"SETUP_WITH", "BEFORE_WITH", "IMPORT_NAME", "RAISE_VARARGS"}
        assert not made & {"BUILD_LIST", "LIST_APPEND", "BUILD_MAP", "MAKE_FUNCTION"}


def test_it_makes_no_memory_of_the_size_of_sound(callback: PythonCallback) -> None:
    indata = np.full((BLOCK, 2), 0.25, dtype=np.float32)
    outdata = np.zeros((BLOCK, 2), dtype=np.float32)

    def run(blocks: int) -> None:
        for _ in range(blocks):
            callback.hear_and_play(indata, outdata, BLOCK, None, None)

    run(10)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run(BLOCKS)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 1_000, "it keeps nothing"
    assert peak - before < SOUND_BYTES / 3, "views of arrays, and numbers"


def test_it_copies_all_channels_into_one_and_one_into_all(callback: PythonCallback) -> None:
    left, right = np.full(BLOCK, 0.5, np.float32), np.full(BLOCK, 0.1, np.float32)
    outdata = np.ones((BLOCK, 2), dtype=np.float32)
    callback.to_play.write(np.arange(100, dtype=np.float32))
    status: Any = "input overflow"
    callback.hear_and_play(np.stack((left, right), axis=1), outdata, BLOCK, None, status)
    heard = callback.heard.take(BLOCK)
    assert heard is not None
    assert np.allclose(heard, 0.3)
    assert np.array_equal(outdata[:100, 1], np.arange(100))
    assert not outdata[100:].any()
    assert callback.to_play.underrun == BLOCK - 100
    assert callback.xruns == 1
