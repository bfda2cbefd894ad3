"""The hours in which downloads run: midnight, weekdays, clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.schedule import DAYS, Local, Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def local_in(zone: ZoneInfo) -> Local:
    return lambda s: datetime.fromtimestamp(s, zone)


def wall(text: str) -> datetime:
    """Of the week from Monday, 2 June 2025: ``wed 22:30``."""
    day, time = text.split()
    moment = datetime.strptime(time, "%H:%M")
    return moment.replace(year=2025, month=6, day=2 + DAYS.index(day))


@pytest.mark.parametrize(
    ("schedule", "inside", "outside"),
    [
        ("22:00-07:00", ["mon 22:00", "sun 23:59", "tue 00:00", "tue 06:59"], ["tue 07:00"]),
        ("22:00-07:00", [], ["mon 21:59", "mon 12:00"]),
        ("09:30-17:00", ["mon 09:30", "sun 16:59"], ["mon 09:29", "mon 17:00"]),
        ("mon-fri 22:00-07:00", ["fri 22:00", "sat 06:59"], ["sat 22:00", "mon 06:00"]),
        ("sat,sun 00:00-24:00", ["sat 00:00", "sun 23:59"], ["fri 23:59", "mon 00:00"]),
        ("fri-mon 12:00-13:00", ["fri 12:00", "sun 12:00", "mon 12:59"], ["thu 12:00"]),
        ("sun 23:00-01:00", ["mon 00:59"], ["sun 00:30", "tue 00:30"]),
        ("22:00-24:00; 00:00-06:00", ["mon 23:59", "tue 00:00"], ["tue 06:00"]),
        ("Sat 8:00 - 9:00 ; else 200k", ["sat 08:30"], ["sun 08:30"]),
    ],
)
def test_windows_hold_what_they_say(schedule: str, inside: list[str], outside: list[str]) -> None:
    parsed = Schedule.parse(schedule)
    assert [m for m in inside if not parsed.is_open(wall(m))] == []
    assert [m for m in outside if parsed.is_open(wall(m))] == []
    assert Schedule.parse(parsed.text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "nights", "22:00", "22:00-22:00", "24:00-01:00", "22:60-07:00", "22:00-25:00"),
        *("else 200k", "22:00-07:00; else", "22:00-07:00; else 0", "22:00-07:00; else 1M; else 2M"),
        *("xyz 22:00-07:00", "mon- 22:00-07:00", "mon 22:00-07:00, tue 22:00-07:00"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("text", "bps"),
    [("200k", 200_000), ("1.5MB/s", 1_500_000), ("2MiB/s", 2 * 1024**2), ("900", 900)],
)
def test_the_time_outside_may_have_a_limit(text: str, bps: int) -> None:
    assert Schedule.parse(f"22:00-07:00; else {text}").outside_bps == bps


@pytest.mark.parametrize(
    ("schedule", "now", "changes"),
    [
        ("22:00-07:00", "2025-06-02T12:00:30+02:00", "2025-06-02T22:00+02:00"),
        ("22:00-07:00", "2025-06-02T22:00:00+02:00", "2025-06-03T07:00+02:00"),
        ("sat,sun 00:00-24:00", "2025-06-02T12:00:00+02:00", "2025-06-07T00:00+02:00"),
        # Summer time begins: 02:00 is 03:00, and an opening in between comes at the jump.
        ("02:30-05:00", "2025-03-30T00:00:00+01:00", "2025-03-30T03:00+02:00"),
        ("22:00-07:00", "2025-03-29T23:00:00+01:00", "2025-03-30T07:00+02:00"),
        # It ends: 03:00 is 02:00 once more, and so is the window.
        ("02:00-02:30", "2025-10-26T02:10:00+02:00", "2025-10-26T02:30+02:00"),
        ("02:00-02:30", "2025-10-26T02:40:00+02:00", "2025-10-26T02:00+01:00"),
    ],
)
def test_when_it_changes_next(schedule: str, now: str, changes: str) -> None:
    now_s = datetime.fromisoformat(now).timestamp()
    found = Schedule.parse(schedule).next_change_s(now_s, local_in(BERLIN))
    assert found == datetime.fromisoformat(changes).timestamp()


def test_what_never_changes_says_so() -> None:
    always = Schedule.parse("00:00-24:00")
    assert always.next_change_s(1_750_000_000.0, local_in(BERLIN)) is None


times = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda t: f"{t[0]}:{t[1]:02}")


@given(times, times, st.integers(0, 7 * 24 * 3600))
def test_a_change_is_the_first_minute_that_differs(start: str, stop: str, after_s: int) -> None:
    if start == stop:
        return
    schedule = Schedule.parse(f"{start}-{stop}")
    zone = ZoneInfo("UTC")
    now = datetime(2025, 6, 2, tzinfo=UTC) + timedelta(seconds=after_s)
    found = schedule.next_change_s(now.timestamp(), local_in(zone))
    assert found is not None
    change = datetime.fromtimestamp(found, UTC)
    assert schedule.is_open(change) is not schedule.is_open(now)
    assert schedule.is_open(change - timedelta(minutes=1)) is schedule.is_open(now)
    assert change - now <= timedelta(days=1)
