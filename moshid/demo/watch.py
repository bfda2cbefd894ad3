"""Listens to the daemon's events while something else happens. Owns one thread and connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from moshi_client.errors import ClientError
from moshid.demo.home import DemoFailed, World

POLL_S = 0.2
Json = dict[str, Any]


class Watch:
    """Collects the data of all events of ``topics``, as ``(topic, data)``. A context manager."""

    def __init__(self, world: World, topics: list[str]) -> None:
        self.events: list[tuple[str, Json]] = []
        self._world = world
        self._topics = topics
        self._changed = threading.Condition()
        self._over = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(30.0):
            raise DemoFailed("no events could be had from the daemon")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join()

    def data(self, topic: str) -> list[Json]:
        """What came for one topic so far."""
        with self._changed:
            return [data for of, data in self.events if of == topic]

    def wait_for(self, wanted: Callable[[str, Json], bool], what: str, limit_s: float) -> None:
        """Wait until an event (one that came already counts) is ``wanted(topic, data)``.

        Raises:
            DemoFailed: it did not come within ``limit_s``.
        """

        def found() -> bool:
            return self._over or any(wanted(topic, data) for topic, data in self.events)

        with self._changed:
            if not self._changed.wait_for(found, limit_s) or self._over:
                raise DemoFailed(f"waited in vain for {what}")

    def _listen(self) -> None:
        try:
            with self._world.connect() as connection:
                connection.call("events.subscribe", {"topics": self._topics})
                self._ready.set()
                while not self._over:
                    note = connection.take(POLL_S)
                    if note is None or note[0] != "event":
                        continue
                    with self._changed:
                        self.events.append((note[1]["topic"], note[1]["data"]))
                        self._changed.notify_all()
        except ClientError:
            self._over = True  # the daemon was killed, as the demo does
            with self._changed:
                self._changed.notify_all()
