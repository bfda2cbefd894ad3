"""What may be asked for by URL: addresses, outputs, and which parameters go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.downloads.output import Output, check_output, endpoint_of, is_url, output_of
from moshid.downloads.web import check_url, sendable
from moshid.errors import InvalidParams, OutputUnusable

ETAG = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://host/f", "https://host/f"),
        ("http://127.0.0.1:80/a%20b?sig=x%2By#part", "http://127.0.0.1:80/a%20b?sig=x%2By"),
        ("HTTPS://Host/Ünder", "https://Host/Ünder"),
        ("http://[::1]/f", "http://[::1]/f"),
    ],
)
def test_http_urls_are_kept_as_they_are_but_for_the_fragment(url: str, kept: str) -> None:
    assert check_url(url) == kept
    assert is_url(kept)
    assert not is_url("org/name")


@pytest.mark.parametrize(
    "url",
    [
        *("", "f", "host/f", "ftp://host/f", "file:///etc/passwd", "http://", "https:///f"),
        *(
            "http://host:99999/f",
            "http://host:x/f",
            "http://[::1/f",
            "http://ho st/f",
            "http://h/\n",
        ),
        *("http://user:secret@host/f", "http://user@host/f", "http://:@host/f"),
    ],
)
def test_other_urls_are_refused_and_no_password_is_repeated(url: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check_url(url)
    assert "secret" not in caught.value.message


def test_what_is_quoted_goes_over_the_line_as_it_is() -> None:
    assert str(sendable("http://h/a%2Fb?s=%2B~%20")) == "http://h/a%2Fb?s=%2B~%20"
    assert str(sendable("http://h/ü")) == "http://h/%C3%BC"


@pytest.mark.parametrize("output", ["f", "./f", "", "/", "/a/", "/a/..", "/a/.", "/a\0b"])
def test_an_output_is_the_absolute_path_of_a_file(output: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        check_output(output)
    assert ("starting with /" in caught.value.hint) == (output[:1] != "/" or "\0" in output)


def test_an_output_is_known_by_its_shortest_path() -> None:
    path = check_output("/a/./b/../f")
    assert path == Path("/a/f")
    assert output_of(endpoint_of(path)) == path
    assert output_of("https://huggingface.co") is None


def test_a_partial_file_lies_hidden_beside_and_its_name_is_not_too_long(tmp_path: Path) -> None:
    assert Output(tmp_path / "f.bin", made=False).partial(ETAG) == (
        tmp_path / ".f.bin.01234567.moshid-part"
    )
    long = Output(tmp_path / ("ü" * 127), made=False)
    long.path.touch()
    long.partial(ETAG).touch()
    assert long.key(ETAG) == f"{ETAG}:{long.path}"


def test_only_what_the_job_made_is_replaced(tmp_path: Path) -> None:
    path, partial = tmp_path / "f", tmp_path / "part"
    path.write_text("old")
    partial.write_text("new")
    theirs, ours = Output(path, made=False), Output(path, made=True)
    for change in (
        lambda: theirs.publish("", "", "", ETAG, partial),
        lambda: theirs.seed("", ETAG, 3),
    ):
        with pytest.raises(OutputUnusable):
            change()
    assert path.read_text() == "old"
    assert ours.seed("", ETAG, 3)
    assert ours.partial(ETAG).read_text() == "old"
    assert not ours.seed("", ETAG, 3), "one is there already"
    ours.publish("", "", "", ETAG, partial)
    assert (path.read_text(), partial.exists()) == ("new", False)
    ours.link("", "", "", ETAG)
    assert sorted(tmp_path.iterdir()) == [path]
