"""How a trial stands while it runs: each process that stores tells it once a second by a datagram.

Nothing waits for these reports: one that is lost is followed by the next, and a result never rests on them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from logger.histogram import Histogram, together

_HOST = "127.0.0.1"
_MOST_BYTES = 60_000


@dataclass(frozen=True)
class Report:
    """One process, since its start."""

    process: int
    stored_rows: int
    missed: int
    spooled: int
    """Scans that are read and not stored yet."""
    response: Histogram
    seconds: float
    """Since its first scan was due."""


@dataclass
class Live:
    """All processes of a trial, as they reported last."""

    reports: dict[int, Report] = field(default_factory=dict)

    @property
    def values_per_s(self) -> float:
        return sum(r.stored_rows / r.seconds for r in self.reports.values() if r.seconds > 0)

    @property
    def spooled(self) -> int:
        return sum(r.spooled for r in self.reports.values())

    @property
    def missed(self) -> int:
        return sum(r.missed for r in self.reports.values())

    @property
    def p99_ms(self) -> float:
        """Of the response of all processes, at most 17 % off; NaN while nothing was stored."""
        return together(r.response for r in self.reports.values()).percentile(99) * 1000


class Listener:
    """Receives what the processes report."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.port = int(end.getsockname()[1])
        self.live = Live()

    def look(self) -> Live:
        """Take in all that has arrived; does not wait."""
        with suppress(BlockingIOError):
            while True:
                self._take(self._end.recv(_MOST_BYTES))
        return self.live

    def _take(self, data: bytes) -> None:
        with suppress(ValueError, KeyError, TypeError):  # anybody may send to a port
            told: dict[str, Any] = json.loads(data)
            told["response"] = Histogram.from_json(told["response"])
            self.live.reports[int(told["process"])] = Report(**told)


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener for one trial, on this machine only."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind((_HOST, 0))
        end.setblocking(False)
        yield Listener(end)


def tell(port: int, report: Report) -> None:
    """Send a report; 0 is nobody. What cannot be sent is left out."""
    if not port:
        return
    data = {**vars(report), "response": report.response.to_json()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end, suppress(OSError):
        end.setblocking(False)
        end.sendto(json.dumps(data).encode(), (_HOST, port))
