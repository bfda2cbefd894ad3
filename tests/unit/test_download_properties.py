"""The pure rules of downloads under arbitrary input: answers, patience, back-off, plan."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from moshid.downloads import plan
from moshid.downloads.answers import WAIT_MAX_S, Verdict, judge, wait_s
from moshid.downloads.backoff import Backoff
from moshid.downloads.plan import ByteRange
from moshid.downloads.suspects import BATCH_MIN, BATCH_SHARE, RESCUED, next_suspects

SETTINGS = settings(derandomize=True, deadline=None, database=None)

TOTAL = 1000
numbers = st.integers(0, TOTAL + 1).map(str)
statuses = st.one_of(st.sampled_from([200, 206, 301, 403, 416, 429, 503]), st.integers(100, 599))
wanted = st.tuples(st.integers(0, TOTAL - 1), st.integers(1, TOTAL)).map(
    lambda t: ByteRange(t[0], min(TOTAL, t[0] + t[1]))
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, dict[str, str], ByteRange]:
    """Status, headers and the range that was wanted; each header right, absent or anything."""
    want = draw(wanted)
    right = want.content_range(TOTAL)
    headers = {
        "Content-Range": st.one_of(
            st.just(right),
            st.sampled_from([f" {right} ", right.replace("bytes ", "bytes="), f"{right}0"]),
            st.builds("bytes {}-{}/{}".format, numbers, numbers, st.sampled_from(["1000", "*"])),
            st.text(max_size=20),
        ),
        "Content-Length": st.one_of(st.sampled_from([str(want.size), str(TOTAL)]), numbers),
        "Content-Encoding": st.sampled_from(["", "identity", "gzip", "br", " Identity "]),
        "Content-Type": st.sampled_from(["text/html", "application/octet-stream"]),
        "Transfer-Encoding": st.just("chunked"),
        "Retry-After": st.text(max_size=20),
    }
    given_ones = draw(st.sets(st.sampled_from(sorted(headers))))
    return draw(statuses), {n: draw(headers[n]) for n in sorted(given_ones)}, want


def has_it(status: int, given: dict[str, str], want: ByteRange) -> bool:
    """Whether an answer is a part of that file with the range in it, and not the whole for a part,
    by a rule of its own."""
    if status not in (200, 206) or given.get("Content-Encoding", "").strip().lower() not in (
        ("", "identity")
    ):
        return False
    length = given.get("Content-Length")
    if "Content-Range" in given:
        unit, _, said = given["Content-Range"].strip().partition(" ")
        span, _, total = said.partition("/")
        first, _, last = span.partition("-")
        if unit != "bytes" or total not in (str(TOTAL), "*") or not (first and last).isdecimal():
            return False
        start, stop = int(first), int(last) + 1
        if (start, stop) == (0, TOTAL) and (want.start, want.stop) != (0, TOTAL):
            return False
        begins = start == want.start or (start < want.start and start % 4096 == 0)
        inside = begins and want.stop <= stop <= TOTAL
        return inside and length in (None, str(stop - start))
    whole = status == 200 and (want.start, want.stop) == (0, TOTAL)
    page = given.get("Content-Type") == "text/html"
    return whole and (length == str(TOTAL) or (length is None and not page))


@SETTINGS
@given(answers())
def test_bytes_are_taken_only_where_the_range_is_among_them(
    answered: tuple[int, dict[str, str], ByteRange],
) -> None:
    status, given, want = answered
    answer = judge(status, given, want, TOTAL)
    assert (answer.verdict is Verdict.TAKE) == has_it(status, given, want)
    assert answer.verdict is Verdict.TAKE or answer.reason


@SETTINGS
@given(wanted, st.data())
def test_right_answers_are_taken_and_one_wrong_length_is_not(
    want: ByteRange, data: st.DataObject
) -> None:
    right = {"Content-Range": want.content_range(TOTAL), "Content-Length": str(want.size)}
    assert judge(206, right, want, TOTAL).verdict is Verdict.TAKE
    shift = data.draw(st.integers(-3, 3).filter(bool))
    start, stop = data.draw(st.sampled_from([(shift, 0), (0, shift), (shift, shift)]))
    moved = ByteRange(want.start + start, want.stop + stop)
    if moved.size <= 0:
        return
    wrong = right | {"Content-Range": moved.content_range(TOTAL)}
    if moved.size != want.size:
        assert judge(206, wrong, want, TOTAL).verdict is Verdict.WRONG
    told = judge(206, wrong | {"Content-Length": str(moved.size)}, want, TOTAL)
    begins = moved.start == want.start or (moved.start % 4096 == 0 <= moved.start < want.start)
    wider = begins and want.stop <= moved.stop <= TOTAL
    whole = moved == ByteRange(0, TOTAL)
    verdict = Verdict.WHOLE if whole else Verdict.TAKE if wider else Verdict.WRONG
    assert told.verdict is verdict


dates = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "x"]),
    st.integers(-1, 40),
    st.sampled_from(["Jan", "Feb", "Foo"]),
    st.integers(-1, 99_999),
    st.integers(0, 30),
    st.integers(0, 70),
    st.integers(0, 70),
    st.one_of(
        st.sampled_from(["GMT", "", "EST"]), st.integers(-99_999, 99_999).map("{:+05d}".format)
    ),
)
waits = st.one_of(st.text(max_size=40), dates, st.integers(-(10**400), 10**400).map(str))


@SETTINGS
@given(st.fixed_dictionaries({}, optional={"Retry-After": waits, "RateLimit": waits}))
@example({"Retry-After": "Mon, 01 Jan 0001 00:00:00 GMT"})
@example({"Retry-After": "Mon, 01 Jan 9999 23:59:59 -9999"})
@example({"Retry-After": "1" * 5000})
@example({"RateLimit": "t=" + "1" * 5000})
def test_no_text_upsets_patience(given: dict[str, str]) -> None:
    for now_s in (None, 0.0):
        wait = wait_s(given, now_s)
        assert wait is None or 0.0 <= wait <= WAIT_MAX_S


@SETTINGS
@given(
    st.floats(0.001, 10),
    st.floats(0.001, 100),
    st.integers(1, 60),
    st.randoms(use_true_random=False),
)
def test_backoff_stays_within_half_of_its_doubling_and_starts_again(
    first_s: float, max_s: float, failures: int, rng: random.Random
) -> None:
    backoff = Backoff(first_s, max_s, rng)
    for i in range(failures):
        whole_s = min(max_s, first_s * 2.0 ** min(i, 32))
        assert whole_s / 2 <= backoff.next_s() <= whole_s
    backoff.reset()
    assert backoff.next_s() <= min(first_s, max_s)


@SETTINGS
@given(st.integers(0, 1 << 36), st.integers(1 << 16, 1 << 30))
def test_a_plan_covers_every_byte_once(size: int, chunk_bytes: int) -> None:
    size = min(size, 2000 * chunk_bytes)  # no more chunks than a test needs
    chunks = plan.split(size, chunk_bytes)
    assert sum(c.size for c in chunks) == size
    assert all(a.range.stop == b.range.start for a, b in pairwise(chunks))
    assert all(c.size == chunk_bytes for c in chunks[:-1])
    assert plan.left(chunks) == chunks
    assert plan.bytes_done(chunks) == 0


@SETTINGS
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_what_is_left_are_the_chunks_that_are_not_done(done: list[bool], part: int) -> None:
    chunks = plan.split(len(done) * 100, 100)
    for chunk, is_done in zip(chunks, done, strict=True):
        chunk.done, chunk.durable_bytes = is_done, 100 if is_done else part
    left = plan.left(chunks)
    assert [c.index for c in left] == [i for i, d in enumerate(done) if not d]
    missing = sum(c.range_after(c.durable_bytes).size for c in left)
    assert missing == len(done) * 100 - plan.bytes_done(chunks)


@SETTINGS
@given(
    st.lists(st.sampled_from([0, 1, 3, RESCUED, RESCUED + 1]), min_size=1, max_size=300),
    st.sets(st.integers(0, 299)),
)
def test_suspects_are_fresh_few_and_the_most_suspicious(
    suspicions: list[int], tried: set[int]
) -> None:
    chunks = plan.split(len(suspicions) * 10, 10)
    for chunk, suspicion in zip(chunks, suspicions, strict=True):
        chunk.suspicion = suspicion
    tried &= set(range(len(chunks)))
    found = next_suspects(chunks, tried)
    others = [c for c in chunks if c.index not in tried and c not in found]
    assert tried.isdisjoint(c.index for c in found)
    assert bool(found) == (len(tried) < len(chunks))
    assert len(found) <= max(BATCH_MIN, len(tried) / BATCH_SHARE)
    assert all(c.suspicion <= min(f.suspicion for f in found) for c in others)
