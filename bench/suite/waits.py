"""What the server's processes wait for, by looking often: shares of time by wait event."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from logger.database import connect

_EVERY_S = 0.005
_LOOK = """
SELECT coalesce(wait_event_type || ':' || wait_event, 'computing')
FROM pg_stat_activity WHERE pid = ANY(%s) AND (state = 'active' OR wait_event_type = 'Lock')"""
_OF_SCHEMA = """
SELECT coalesce(wait_event_type || ':' || wait_event, 'computing')
FROM pg_stat_activity WHERE application_name = %s AND (state = 'active' OR wait_event_type = 'Lock')"""


@dataclass
class Waits:
    """How often backends that were at work were seen in each state."""

    seen: Counter[str] = field(default_factory=Counter)
    looks: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """Of the time at work, the most frequent first."""
        total = sum(self.seen.values())
        return {event: count / total for event, count in self.seen.most_common()} if total else {}

    def share_of(self, kind: str) -> float:
        """Of all events of a type: Lock, LWLock, IO."""
        return sum(share for event, share in self.shares.items() if event.startswith(f"{kind}:"))

    @property
    def backends_at_work(self) -> float:
        """On average over the looks."""
        return sum(self.seen.values()) / self.looks if self.looks else 0.0

    def in_words(self, most: int = 3) -> str:
        """The most frequent events."""
        return (
            ", ".join(f"{event} {share:.0%}" for event, share in list(self.shares.items())[:most])
            or "none seen"
        )


@contextmanager
def watched_waits(conninfo: str, pids: Sequence[int] = (), application_name: str = "") -> Iterator[Waits]:
    """Look at backends, by their ids or by their sessions' name, every 5 ms until the end of the block.

    The looks come from a connection and a thread of their own and cost some 2 % of a core.
    """
    waits, ended = Waits(), threading.Event()
    statement, argument = (_OF_SCHEMA, application_name) if application_name else (_LOOK, list(pids))

    with connect(conninfo) as connection:

        def look() -> None:
            due = time.monotonic()
            while not ended.wait(max(0.0, due - time.monotonic())):
                rows = connection.execute(statement.encode(), (argument,)).fetchall()
                waits.seen.update(event for (event,) in rows)
                waits.looks += 1
                due = max(due + _EVERY_S, time.monotonic())

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield waits
        finally:
            ended.set()
            thread.join()
