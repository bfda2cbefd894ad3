"""What a Hub is asked, and what it answers: the seam between the engine and the places that bytes
come from. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from moshid.errors import DownloadError, DownloadNotFound


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the Hub: its digest, its size in bytes, and where its bytes are at the moment.
    ``asked``: the address that leads there, each time anew;
    ``origin``: the endpoint that said so, where there are several; ``encoding``: what the bytes are
    called there, though they are the file; ``ranges``: whether parts of it are given."""

    path: str
    commit: str
    etag: str
    size: int
    location: str
    asked: str
    origin: str = ""
    encoding: str = ""
    ranges: bool = True


class Resized(Exception):
    """A file has the digest that it had, and another size than was told before: one of them was
    wrong, and only the bytes can tell which."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(f"{path} has another size than was told before")
        self.message = str(self)
        self.size = size


@dataclass(frozen=True, slots=True)
class Absent:
    """The repository has no such file; its commit is known all the same, if the Hub told it."""

    commit: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at the commit that a revision is."""

    commit: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of which everything is known but where its bytes are."""

    repo: str
    commit: str
    path: str
    etag: str
    size: int

    def check(self, found: RemoteFile | Absent) -> RemoteFile:
        """``found``, if it is this file.

        Raises:
            DownloadNotFound: there is no such file any more.
            DownloadError: it is another.
            Resized: it is the same, of another size.
        """
        if isinstance(found, Absent):
            raise DownloadNotFound(f"{self.repo} no longer has {self.path}")
        if found.etag == self.etag and found.size != self.size:
            raise Resized(self.path, found.size)
        if found.etag != self.etag:
            raise DownloadError(
                f"{self.repo} no longer has {self.path} as it was when the job began",
                hint="Cancel the job and start it again.",
            )
        return found


class Hub(Protocol):
    """What the engine asks of a Hub. All raise the errors of the download tree; DownloadNetwork
    means that asking again may help, perhaps after ``facts["wait_s"]``."""

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """A file's metadata."""

    async def config(self, file: RemoteFile, repo: str) -> dict[str, Any] | None:
        """A JSON file's content; None if it is no JSON object."""

    async def listing(self, repo: str, revision: str) -> Listing:
        """All paths of a repository at a revision."""

    async def headers(self, url: str) -> dict[str, str]:
        """Headers for a GET of ``url``; the token goes to the Hub itself only."""
