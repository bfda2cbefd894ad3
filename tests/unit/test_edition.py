"""Whether the file at a URL was replaced, by what its server says of it."""

from __future__ import annotations

import pytest

from moshid.downloads.edition import ALIKE, Edition, Editions

OLD, NEW = {"ETag": '"old"', "Last-Modified": "Mon"}, {"ETag": '"new"', "Last-Modified": "Tue"}


def see(editions: Editions, *answers: dict[str, str], server: str = "http://a") -> None:
    """One answer after the other."""
    for headers in answers:
        editions.saw(server, Edition.of(headers))


@pytest.mark.parametrize(
    ("first", "then", "news"),
    [
        (OLD, NEW, 'ETag "old" at first, ETag "new" now'),
        ({"Last-Modified": "Mon"}, {"Last-Modified": "Tue"}, "of Mon at first, of Tue now"),
        (OLD | {"ETag": 'W/"x"'}, NEW, 'of Mon at first, ETag "new" now'),
    ],
    ids=["etag", "modified", "weak"],
)
def test_another_edition_is_told_once_it_is_certain(
    first: dict[str, str], then: dict[str, str], news: str
) -> None:
    editions = Editions()
    see(editions, first, *(ALIKE - 1) * [then])
    assert editions.news is None
    see(editions, then)
    assert editions.news == news


@pytest.mark.parametrize(
    "then",
    [OLD | {"Last-Modified": "Tue"}, {"ETag": 'W/"y"'}, {}, {"Last-Modified": "Mon"}],
    ids=["same etag", "weak", "nothing", "no etag"],
)
def test_what_may_be_the_same_is_no_other(then: dict[str, str]) -> None:
    editions = Editions()
    see(editions, OLD, *2 * ALIKE * [then])
    assert editions.news is None


def test_who_asked_before_does_not_count_as_coming_back() -> None:
    """Answers overtake each other when a file is replaced."""
    editions = Editions()
    see(editions, OLD, NEW, OLD, NEW, NEW, OLD, *ALIKE * [NEW])
    assert editions.news is not None


def test_servers_that_take_turns_behind_one_name_have_one_file() -> None:
    editions = Editions()
    see(editions, OLD, *ALIKE * [NEW], OLD)
    assert editions.news is None, "it came back"
    see(editions, *2 * ALIKE * [NEW])
    assert editions.news is None


def test_each_server_has_its_own_words() -> None:
    editions = Editions()
    for _ in range(2 * ALIKE):
        see(editions, OLD, server="http://a")
        see(editions, NEW, server="http://b")
    assert editions.news is None


def test_ever_other_ones_are_as_good_as_none() -> None:
    """Some servers make up an ETag for each answer."""
    editions = Editions()
    see(editions, *({"ETag": f'"{n}"'} for n in range(5 * ALIKE)))
    assert editions.news is None


def test_what_a_server_says_moves_no_cursor() -> None:
    editions = Editions()
    see(editions, {"ETag": '"a\x1b[2J"'}, *ALIKE * [{"ETag": f'"{"b" * 500}"'}])
    assert editions.news is not None
    assert editions.news.isprintable()
    assert len(editions.news) < 200
