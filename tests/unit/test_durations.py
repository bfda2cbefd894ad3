"""Durations as people write them."""

from __future__ import annotations

import pytest

from moshid import durations


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(("10m", 600.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("45s", 45.0), ("2d", 172_800.0)),
        *(("250ms", 0.25), ("0", 0.0), (0, 0.0), ("300", 300.0), (300, 300.0), (1.5, 1.5)),
        *((" 10M ", 600.0), ("1m30s", 90.0)),
    ],
)
def test_seconds(written: str | float, seconds: float) -> None:
    assert durations.parse(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["forever", " Forever "])
def test_for_ever(written: str) -> None:
    assert durations.parse(written) is None


@pytest.mark.parametrize("written", ["soon", "", "10 m", "m10", "1h30", "10y", "inf", "nan", "-1"])
def test_what_is_none_is_refused_and_says_how_to_write_it(written: str) -> None:
    with pytest.raises(ValueError, match="forever"):
        durations.parse(written)


@pytest.mark.parametrize("number", [-1, -0.1, 1e9, float("nan"), float("inf")])
def test_numbers_out_of_range(number: float) -> None:
    with pytest.raises(ValueError, match="between 0 and a year"):
        durations.parse(number)
