"""The pure rules of the engine: states, answers, back-off, profiles, tuning, the meter."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.downloads.answers import (
    WAIT_MAX_S,
    WIDER_BYTES_MAX,
    Verdict,
    judge,
    told_size,
    wait_s,
)
from moshid.downloads.backoff import Backoff
from moshid.downloads.entries import new_id
from moshid.downloads.job import Job, JobError, JobFile
from moshid.downloads.meter import Meter, count_refetched
from moshid.downloads.plan import ByteRange
from moshid.downloads.profiles import MIB, PROFILES, choose
from moshid.downloads.refusals import Refusals
from moshid.downloads.states import ACTIVE, FINISHED, TRANSITIONS, FileState, JobState, of_files
from moshid.downloads.tally import Tally
from moshid.downloads.tuner import Tuner
from moshid.downloads.volume import room_for
from moshid.errors import DiskFull, DownloadNetwork, InvalidParams

WANT, TOTAL = ByteRange(100, 200), 1000
RIGHT = {"Content-Range": "bytes 100-199/1000", "Content-Length": "100"}


@pytest.mark.parametrize("status", [200, 206])
def test_the_exact_range_is_taken(status: int) -> None:
    assert judge(status, RIGHT, WANT, TOTAL).verdict is Verdict.TAKE
    assert judge(status, RIGHT | {"Content-Encoding": "identity"}, WANT, TOTAL).verdict is (
        Verdict.TAKE
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html; charset=utf-8"},
        {"Content-Length": "100"},
        RIGHT | {"Content-Range": "bytes 101-200/1000"},
        RIGHT | {"Content-Range": "bytes 100-199/1001"},
        RIGHT | {"Content-Range": "bytes 100-198/1000"},
        RIGHT | {"Content-Range": "bytes 100-200/1000"},
        RIGHT | {"Content-Range": "lines 100-199/1000"},
        RIGHT | {"Content-Length": "99"},
        RIGHT | {"Content-Encoding": "gzip"},
    ],
)
@pytest.mark.parametrize("status", [200, 206])
def test_one_wrong_header_rejects_the_answer(status: int, headers: dict[str, str]) -> None:
    assert judge(status, headers, WANT, TOTAL).verdict is Verdict.WRONG


def test_a_body_need_not_tell_its_length() -> None:
    told = {"Content-Range": RIGHT["Content-Range"]}
    assert judge(206, told, WANT, TOTAL).verdict is Verdict.TAKE
    assert judge(200, {}, ByteRange(0, TOTAL), TOTAL).verdict is Verdict.TAKE


@pytest.mark.parametrize("told", ["bytes 100-199/*", "Bytes 100-199/1000", "bytes  100-199 / 1000"])
def test_a_range_may_be_told_in_other_words(told: str) -> None:
    assert judge(206, RIGHT | {"Content-Range": told}, WANT, TOTAL).verdict is Verdict.TAKE


def test_the_beginning_of_a_range_is_taken() -> None:
    want, total = ByteRange(1000, 100_000), 200_000
    told = {"Content-Range": "bytes 1000-50999/200000", "Content-Length": "50000"}
    answer = judge(206, told, want, total)
    assert (answer.verdict, answer.stop) == (Verdict.TAKE, 51_000)
    for other in ["bytes 1001-50999/200000", "bytes 1000-50999/200001"]:
        given = {"Content-Range": other}
        assert judge(206, given, want, total).verdict is Verdict.WRONG
    assert judge(206, told | {"Content-Length": "9"}, want, total).verdict is Verdict.WRONG
    drip = {"Content-Range": "bytes 1000-1000/200000"}
    assert judge(206, drip, want, total).verdict is Verdict.WRONG


def test_a_wider_range_is_taken_from_where_it_begins() -> None:
    begin = WIDER_BYTES_MAX + 1000
    want, total = ByteRange(begin, begin + 9000), 2 * begin
    for start, stop in [(want.start, want.stop + 7), (8192, want.stop), (4096, total)]:
        told = ByteRange(start, stop)
        given = {"Content-Range": told.content_range(total), "Content-Length": str(told.size)}
        answer = judge(206, given, want, total)
        assert (answer.verdict, answer.start, answer.stop) == (Verdict.TAKE, start, stop)
        given["Content-Length"] = str(want.size)
        assert judge(206, given, want, total).verdict is Verdict.WRONG
    slips = [(want.start - 7, want.stop), (8192, want.stop - 1), (want.start, total + 1)]
    for start, stop in [*slips, (0, want.stop), (want.stop, total), (0, 1000)]:
        given = {"Content-Range": ByteRange(start, stop).content_range(total)}
        assert judge(206, given, want, total).verdict is Verdict.WRONG
    endless = {"Content-Range": f"bytes {'9' * 5000}-{'9' * 5000}/{total}"}
    assert judge(206, endless, want, total).verdict is Verdict.WRONG


@pytest.mark.parametrize("status", [200, 206])
def test_the_whole_file_called_a_range_is_known_as_the_whole(status: int) -> None:
    all_of_it = {"Content-Range": f"bytes 0-{TOTAL - 1}/{TOTAL}", "Content-Length": str(TOTAL)}
    assert judge(status, all_of_it, WANT, TOTAL).verdict is Verdict.WHOLE
    assert judge(status, all_of_it, ByteRange(0, TOTAL), TOTAL).verdict is Verdict.TAKE
    cut = all_of_it | {"Content-Length": "100"}
    assert judge(status, cut, WANT, TOTAL).verdict is Verdict.WRONG


def test_a_file_of_another_size_is_known_as_one() -> None:
    for status, headers in [
        (206, {"Content-Range": "bytes 100-199/1001"}),
        (200, {"Content-Length": "999"}),
    ]:
        assert judge(status, headers, WANT, TOTAL).other_size
    page = {"Content-Length": "999", "Content-Type": "text/html"}
    assert not judge(200, page, WANT, TOTAL).other_size


def test_what_is_stored_encoded_is_taken_as_it_is() -> None:
    stored = RIGHT | {"Content-Encoding": "x-gzip"}
    assert judge(206, stored, WANT, TOTAL, "x-gzip").verdict is Verdict.TAKE
    assert judge(206, stored, WANT, TOTAL, "br").verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("text", "size"),
    [("7", 7), (str(1 << 60), 1 << 60)]
    + [(t, None) for t in (None, "", "-1", "*", str(2**63), "9" * 5000)],
)
def test_a_size_is_one_that_a_file_can_have(text: str | None, size: int | None) -> None:
    assert told_size(text) == size


def test_a_no_is_believed_after_a_few_with_growing_gaps() -> None:
    refusals = Refusals()
    assert [refusals.again("a") for _ in range(4)] == [0.5, 1.5, 4.5, None]
    assert refusals.again("a") == refusals.again("b") == 0.5
    refusals.over("a")
    assert refusals.again("a") == 0.5


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000"}])
def test_the_whole_file_is_told_from_a_wrong_answer(headers: dict[str, str]) -> None:
    assert judge(200, headers, WANT, TOTAL).verdict is Verdict.WHOLE
    assert judge(206, headers, WANT, TOTAL).verdict is Verdict.WRONG


def test_a_whole_file_may_come_as_200() -> None:
    whole = ByteRange(0, TOTAL)
    assert judge(200, {"Content-Length": "1000"}, whole, TOTAL).verdict is Verdict.TAKE
    assert judge(200, {"Content-Length": "999"}, whole, TOTAL).verdict is Verdict.WRONG
    assert judge(206, {"Content-Length": "1000"}, whole, TOTAL).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *[(status, Verdict.RENEW) for status in (204, 300, 302, 304, 400, 401, 403, 404, 410, 416)],
        *[(status, Verdict.WAIT) for status in (429, 503)],
        *[(status, Verdict.WRONG) for status in (500, 502)],
    ],
)
def test_other_statuses_never_give_bytes(status: int, verdict: Verdict) -> None:
    assert judge(status, RIGHT, WANT, TOTAL).verdict is verdict


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        (
            {
                "Retry-After": "Thu, 01 Jan 1998 00:00:09 GMT",
                "Date": "Thu, 01 Jan 1998 00:00:00 GMT",
            },
            9.0,
        ),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT", "Date": "today"}, 40.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"}, None),
        ({"Retry-After": "999999999"}, WAIT_MAX_S),
        ({"RateLimit": '"resolvers";r=0;t=55'}, 55.0),
        ({"RateLimit": "nonsense"}, None),
        ({}, None),
    ],
)
def test_how_long_a_server_wants_to_be_left_alone(
    headers: dict[str, str], expected: float | None
) -> None:
    assert wait_s(headers, now_s=60.0) == expected


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours before Greenwich."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "EAST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
@pytest.mark.parametrize(
    "date",
    ["Thu Jan  1 00:01:40 1970", "Thursday, 01-Jan-70 00:01:40 GMT", "1 Jan 1970 00:01:40 -0000"],
)
def test_a_date_in_an_older_form_is_of_greenwich(date: str) -> None:
    assert wait_s({"Retry-After": date, "Date": "Thu, 01 Jan 1970 00:01:00 GMT"}) == 40.0


@given(st.integers(1, 100))
def test_backoff_doubles_to_its_limit_and_is_never_short_of_half(failures: int) -> None:
    backoff = Backoff(0.5, 30.0, random.Random(failures))
    for i in range(failures):
        whole_s = min(30.0, 0.5 * 2**i)
        assert whole_s / 2 <= backoff.next_s() <= whole_s
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_states_are_closed_and_can_be_left() -> None:
    assert set(TRANSITIONS) == set(JobState)
    for state in ACTIVE:
        assert {JobState.PAUSED, JobState.FAILED, JobState.CANCELLED} <= TRANSITIONS[state]
    assert TRANSITIONS[JobState.DONE] == {JobState.QUEUED}
    reached = {JobState.QUEUED}
    while more := {n for s in reached for n in TRANSITIONS[s]} - reached:
        reached |= more
    assert reached == set(JobState)
    assert not ACTIVE & FINISHED


@given(st.lists(st.sampled_from(FileState), min_size=1))
def test_a_running_job_shows_its_least_far_file(files: list[FileState]) -> None:
    shown = of_files(files)
    assert shown in ACTIVE
    if shown is JobState.PUBLISHING:
        assert not set(files) & {FileState.QUEUED, FileState.DOWNLOADING, FileState.VERIFYING}


def test_profiles_bound_what_a_kill_costs() -> None:
    assert set(PROFILES) == {"auto", "verified", "robust", "parallel", "turbo"}
    for profile in PROFILES.values():
        at_risk_bytes = profile.risk_bytes + profile.hop_bytes
        assert 0 < profile.hop_bytes <= profile.risk_bytes
        assert at_risk_bytes <= 8 * MIB
        assert at_risk_bytes * profile.workers <= 64 * MIB
        assert profile.connections_max <= profile.workers <= profile.connections_max + 2
    assert choose(PROFILES, "auto", chunk_bytes=None, workers=1).workers == 1
    assert PROFILES["auto"].connections_max == 8
    assert PROFILES["auto"].connections_start <= 4


def test_the_users_numbers_override_a_profile() -> None:
    mine = choose(PROFILES, "verified", chunk_bytes=MIB, workers=2)
    assert (mine.chunk_bytes, mine.connections_start, mine.connections_max) == (MIB, 2, 2)
    for name, chunk_bytes, workers in [("x", None, None), ("auto", 1, None), ("auto", None, 0)]:
        with pytest.raises(InvalidParams):
            choose(PROFILES, name, chunk_bytes=chunk_bytes, workers=workers)


def test_the_tuner_grows_while_it_pays() -> None:
    tuner = Tuner(3, 8)
    line_bps = [100.0 * n for n in (3, 4, 5, 6)] + [600.0] * 30
    found = [tuner.next(goodput, 0) for goodput in line_bps]
    assert found[:4] == [4, 5, 6, 7]
    assert found[4] == 6
    assert set(found[4:]) <= {6, 7}


def test_the_tuner_halves_on_trouble_and_never_leaves_its_bounds() -> None:
    tuner = Tuner(4, 8)
    assert tuner.next(100.0, 0) == 5
    assert [tuner.next(goodput, 5) for goodput in (50.0, 20.0, 10.0)] == [2, 2, 2]
    goodput = (100.0 * 1.5**i for i in range(100))
    counts = [tuner.next(g, 0) for g in goodput]
    assert max(counts) == 8
    assert min(counts) >= 2
    assert all(b - a <= 1 for a, b in pairwise(counts))


def test_trouble_that_costs_no_goodput_does_not_halve() -> None:
    tuner = Tuner(4, 8)
    counts = [tuner.next(100.0 + i % 3, 3) for i in range(60)]
    assert set(counts) == {4, 5}
    assert tuner.next(30.0, 5) == 2, "it collapses: a router is overrun"
    assert [tuner.next(40.0, 0) for _ in range(4)] == [2, 2, 3, 4], "back, though nothing is gained"


def make_meter(tmp_path: Path, clock: list[float]) -> Meter:
    """A meter of a job with one file of 1,000 bytes, on a clock that the test turns."""
    file = JobFile("f", 1000, "0" * 64)
    job = Job("id", "org/name", "main", files=[file], bytes_total=1000)
    return Meter(job, Tally(tmp_path / "tally"), clock=lambda: clock[0])


def test_the_rate_is_a_mean_and_the_eta_follows(tmp_path: Path) -> None:
    clock = [0.0]
    meter = make_meter(tmp_path, clock)
    job = meter.job
    for second in range(5):
        clock[0] = float(second)
        meter.tick()
        meter.arrived(job.files, 100)
    clock[0] = 5.0
    meter.tick()
    assert (job.rate_bps, job.eta_s, job.bytes_done) == (100.0, 5.0, 500)
    clock[0] = 100.0
    meter.tick()
    clock[0] = 111.0
    meter.tick()
    assert (job.rate_bps, job.eta_s) == (0.0, None)


def test_what_is_lost_counts_as_fetched_twice(tmp_path: Path) -> None:
    meter = make_meter(tmp_path, [0.0])
    job = meter.job
    meter.arrived(job.files, 700)
    meter.hold(job.files, -300)
    count_refetched(meter.job)
    assert job.bytes_refetched == 300
    meter.arrived(job.files, 300)
    count_refetched(meter.job)
    assert (job.bytes_refetched, job.bytes_fetched, job.bytes_done) == (300, 1000, 700)
    after_kill = Meter(Job("id", "org/name", "main"), Tally(tmp_path / "tally"))
    assert after_kill.job.bytes_fetched == 1000


def test_what_nobody_fetched_was_rescued(tmp_path: Path) -> None:
    meter = make_meter(tmp_path, [0.0])
    meter.hold(meter.job.files, 400)
    meter.settle()
    meter.arrived(meter.job.files, 600)
    meter.settle()
    count_refetched(meter.job)
    job = meter.job
    assert (job.bytes_rescued, job.bytes_fetched, job.bytes_refetched) == (400, 600, 0)


def test_trouble_shows_until_bytes_flow(tmp_path: Path) -> None:
    meter = make_meter(tmp_path, [0.0])
    meter.setback(DownloadNetwork("the line broke"))
    meter.setback(DownloadNetwork("the URL expired"), trouble=False)
    assert (meter.job.retries, meter.troubles) == (2, 1)
    assert meter.job.error is not None
    assert meter.job.error.kind == "download.network"
    meter.arrived(meter.job.files, 1)
    assert meter.job.error is None


def test_a_job_is_its_contract() -> None:
    job = Job("1", "org/name", "main", files=[JobFile("f", 1, "0" * 40)])
    job.error = JobError.of(DiskFull("no room"))
    fields = (
        "id repo revision commit profile state files bytes_total bytes_done bytes_fetched"
        " bytes_rescued bytes_refetched chunks_corrupt retries connections rate_bps eta_s error"
        " priority limit_bps output"
    )
    picture = job.to_json()
    assert list(picture) == fields.split()
    file_fields = "path size digest state bytes_done chunks_total chunks_done"
    assert list(picture["files"][0]) == file_fields.split()
    assert set(picture["error"]) == {"message", "kind", "hint", "retryable"}
    copy = job.copy()
    copy.files[0].bytes_done = 1
    assert job.files[0].bytes_done == 0


@pytest.mark.parametrize(
    ("need", "wanted"),
    [(0, 0), (31, 31), (3200, 3300), (1 << 34, (1 << 34) + (64 << 20))],
)
def test_a_margin_is_a_share_of_the_need_up_to_a_limit(need: int, wanted: int) -> None:
    assert room_for(need, 64 << 20) == wanted


def test_no_job_id_is_taken_for_a_number() -> None:
    """By ``moshi-client call download.get id=...``, which takes what is JSON as such."""
    for _ in range(300):  # of ids in plain hex, more than 2 % are JSON numbers
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(new_id())
