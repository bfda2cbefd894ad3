"""Values as text: sizes, durations, tables, bars, progress lines."""

from __future__ import annotations

import argparse
import io

import pytest

from moshi_client import progress, render
from moshi_client.context import Context


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def context(err: io.StringIO, *, json: bool = False, **env: str) -> Context:
    return Context(argparse.Namespace(json=json), {"COLUMNS": "80", **env}, io.StringIO(), err)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (123_456, "123 kB"),
        (999_600, "1.0 MB"),
        (15_375_697_208, "15.4 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_size(count_bytes: float | None, text: str) -> None:
    assert render.size(count_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (7.4, "0:07"), (59.6, "1:00"), (3723, "1:02:03"), (97_200, "1d 3h")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "count_bytes"),
    [
        ("8M", 8 << 20),
        ("512k", 512 << 10),
        ("1.5GiB", 3 << 29),
        ("1048576", 1 << 20),
        ("8 MB", 8 << 20),
    ],
)
def test_parse_size(text: str, count_bytes: int) -> None:
    assert render.parse_size(text) == count_bytes


@pytest.mark.parametrize("text", ["", "M", "eight", "-1M", "0", "nan", "inf"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (float's own message will do)
        render.parse_size(text)


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        *[("500k", 500_000), ("2M", 2_000_000), ("1.5MB/s", 1_500_000), ("1 G", 1_000_000_000)],
        *[("2MiB/s", 2 << 20), ("512ki", 512 << 10), ("1000", 1000), ("900 b/s", 900)],
    ],
)
def test_parse_rate(text: str, bps: int) -> None:
    assert render.parse_rate(text) == bps


@pytest.mark.parametrize("text", ["", "M", "fast", "-1M", "0", "0.5", "nan", "inf", "2M/h"])
def test_parse_rate_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (float's own message will do)
        render.parse_rate(text)


def test_table_pads_columns_and_shows_none_as_dash() -> None:
    text = render.table(("A", "LONG"), [("wide cell", None), (1, "x")])
    assert text == "A          LONG\nwide cell  -\n1          x"


def test_wide_characters_count_for_two_columns() -> None:
    rows = [("日本", 1), ("e\N{COMBINING ACUTE ACCENT}", 2), ("\N{PARROT}", 3)]
    shown = render.table(("NAME", "N"), rows).splitlines()
    assert [line[-1] for line in shown] == ["N", "1", "2", "3"]
    assert [render.columns(line) for line in shown] == [7] * 4
    assert render.pairs([("日本", "x"), ("abcde", "y")]) == "日本   x\nabcde  y"


def test_bar_is_never_longer_than_its_width() -> None:
    assert render.bar(0.5, 4) == "[##..]"
    assert render.bar(7.0, 4) == "[####]"
    assert render.bar(-1.0, 4) == "[....]"


def test_percentiles_name_only_what_is_known() -> None:
    assert render.percentiles({"p50": 1.0}) == "p50 1.0 ms"
    assert render.percentiles(None) == "-"


def job(done: int, state: str = "downloading") -> dict[str, object]:
    return {
        "id": "j1",
        "repo": "kyutai/x",
        "state": state,
        "bytes_total": 1000,
        "bytes_done": done,
        "rate_bps": 2e6,
        "eta_s": 61,
        "error": None,
    }


def test_job_line_has_bar_share_rate_and_eta() -> None:
    line = progress.job_line(job(250))
    assert line == (
        "kyutai/x  [#####...............]   25.0 %  250 B of 1.0 kB  2.0 MB/s  ETA 1:01  "
        "downloading"
    )


def test_job_line_says_why_it_is_paused() -> None:
    paused = job(250, "paused") | {"error": {"message": "no room"}}
    assert progress.job_line(paused).endswith("paused  (no room)")


def test_job_line_says_why_it_failed() -> None:
    failed = job(250, "failed") | {"error": {"message": "no such file"}}
    assert progress.job_line(failed).endswith("failed  (no such file)")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (200, progress.job_line(job(250))),
        (70, "kyutai/x   25.0 %  250 B of 1.0 kB  2.0 MB/s  ETA 1:01  downloading"),
        (60, "x   25.0 %  250 B of 1.0 kB  2.0 MB/s  ETA 1:01  downloading"),
        (50, "x   25.0 %  2.0 MB/s  ETA 1:01  downloading"),
        (39, "x   25.0 %  ETA 1:01  downloading"),
        (25, "x   25.0 %  ETA 1:01"),
        (5, "x   25.0 %"),
    ],
)
def test_job_line_leaves_out_what_matters_least(columns: int, text: str) -> None:
    assert progress.job_line(job(250), columns=columns) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/" + "n" * 50, "nnnnnnnnnnn...   50.0 %  ETA 0:10"),
        ("a/" + "日" * 30, "日日日日日...   50.0 %  ETA 0:10"),
        ("a/" + "n" * 14, "nnnnnnnnnnnnnn   50.0 %  ETA 0:10"),
    ],
    ids=ascii,
)
def test_a_long_name_leaves_room_for_how_far_it_is(name: str, shown: str) -> None:
    job = {"repo": name, "bytes_total": 10, "bytes_done": 5, "state": "downloading", "eta_s": 10}
    assert progress.job_line(job, columns=35) == shown


def test_job_line_keeps_a_state_that_nothing_else_tells() -> None:
    assert progress.job_line(job(250, "paused"), columns=5) == "x   25.0 %  paused"


def test_a_loading_model_tells_bytes_and_layers() -> None:
    advance = {
        "stage": "quantising",
        "fraction": 0.25,
        "bytes_done": 3_840_000_000,
        "bytes_total": 15_375_630_336,
        "layers_done": 11,
        "layers_total": 60,
    }
    line = progress.model_line({"model": "moshiko", "quality": "q4", "progress": advance}, 4)
    assert line == ("moshiko q4  [#...]   25.0 %  3.8 GB of 15.4 GB  layer 11 of 60  quantising")
    warming = {"stage": "warming", "fraction": 0.0}
    line = progress.model_line({"model": "moshiko", "quality": "q4", "progress": warming}, 4)
    assert line == "moshiko q4  [....]    0.0 %  warming"
    assert progress.model_line({"model": None, "state": "unloaded"}) == "model  unloaded"


def test_terminal_line_is_drawn_over_and_erased() -> None:
    err, clock = Terminal(), Clock()
    line = progress.ProgressLine(context(err), clock)
    line.show("one")
    line.show("too soon")
    clock.now_s += 0.2
    line.show("two" + "x" * 100)
    line.clear()
    drawn = err.getvalue().split("\r")
    assert drawn[1] == "one\x1b[K"
    assert drawn[2] == "two" + "x" * 76 + "\x1b[K"
    assert drawn[3] == "\x1b[K"
    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("日" * 30, "日" * 9),  # in 19 columns: half of one does not fit
        ("e\N{COMBINING ACUTE ACCENT}" * 30, "\xe9" * 19),
        ("a\nb\x1b[2Jc", "a b\ufffd[2Jc"),
    ],
    ids=ascii,
)
def test_a_terminal_line_stays_one_line(text: str, drawn: str) -> None:
    err = Terminal()
    line = progress.ProgressLine(
        Context(argparse.Namespace(), {"TERM": "xterm", "COLUMNS": "20"}, io.StringIO(), err)
    )
    line.show(text)
    assert err.getvalue() == f"\r{drawn}\x1b[K"


def test_a_new_stage_is_drawn_at_once() -> None:
    err, clock = Terminal(), Clock()
    line = progress.ProgressLine(context(err), clock)
    line.show("queued", stage="queued")
    line.show("paused (no room)", stage="paused")
    assert err.getvalue().endswith("\rpaused (no room)\x1b[K")


def test_elsewhere_plain_lines_come_now_and_then() -> None:
    err, clock = io.StringIO(), Clock()
    line = progress.ProgressLine(context(err), clock)
    line.show("start", fraction=0.0, stage="downloading")
    line.show("5 %", fraction=0.05, stage="downloading")
    line.show("10 %", fraction=0.10, stage="downloading")
    clock.now_s += 11
    line.show("11 %", fraction=0.11, stage="downloading")
    line.show("hashing", fraction=0.11, stage="verifying")
    assert err.getvalue().split("\n") == ["start", "10 %", "11 %", "hashing", ""]


@pytest.mark.parametrize(("json", "env"), [(True, {}), (False, {"TERM": "dumb"})])
def test_no_control_codes_with_json_or_on_a_dumb_terminal(json: bool, env: dict[str, str]) -> None:
    err = Terminal()
    progress.ProgressLine(context(err, json=json, **env)).show("text", stage="s")
    assert "\x1b" not in err.getvalue()
    assert ("text" in err.getvalue()) is not json


def test_no_color_is_obeyed() -> None:
    err = Terminal()
    assert "\x1b[31m" in context(err).colour("x", "red", err)
    assert context(err, NO_COLOR="1").colour("x", "red", err) == "x"
    assert context(err).colour("x", "red", io.StringIO()) == "x"
