"""Two writers who both want one stream: each claims it, stores until the other has claimed it, claims again.

What runs in a worker process. A stream is its owner's: who has lost it is refused (StreamMoved), and stores
nothing; so no scan may be stored twice and none left out, however often it changes hands.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bench.arms.spec import parse_arm
from bench.load.failures import DATABASE_ERRORS, failure_of
from bench.load.scan_source import PrecomputedScans
from bench.suite.crowd import CrowdSettings, crowd_device
from logger.database import connect
from logger.errors import StreamMoved
from logger.scan import ScanLayout, StreamKey, batch_of

_CLAIM_AGAIN_S = 0.005
"""Who has lost the stream lets the other one store something."""


@dataclass
class Duel:
    """What one of the two did, or both together."""

    stored: int = 0
    claims: int = 0
    refused: int = 0
    """Transactions that came after the other's claim and stored nothing."""
    failures: dict[str, int] = field(default_factory=dict)
    """Whatever else went wrong."""

    def add(self, more: Duel) -> None:
        self.stored += more.stored
        self.claims += more.claims
        self.refused += more.refused
        for name, count in more.failures.items():
            self.failures[name] = self.failures.get(name, 0) + count

    def to_json(self) -> dict[str, Any]:
        return {
            "stored": self.stored,
            "claims": self.claims,
            "refused": self.refused,
            "failures": self.failures,
        }


def duel_ready() -> None:
    """Called first, so that the time it takes to start a process is over when the two begin."""


def duel(settings: CrowdSettings, stream_id: int, at_ns: int, seconds: float) -> Duel:
    """Let two writers fight for a stream of the device that all share; raises DatabaseError."""
    config = crowd_device(settings.parameters, 0, settings.running)
    layout, source = ScanLayout(config), PrecomputedScans(config)
    total = Duel()
    with ThreadPoolExecutor(2) as threads:
        futures = [
            threads.submit(_fight, settings, layout, source, stream_id, at_ns, seconds) for _ in range(2)
        ]
        for future in futures:
            total.add(future.result())
    return total


def _fight(
    settings: CrowdSettings,
    layout: ScanLayout,
    source: PrecomputedScans,
    stream_id: int,
    at_ns: int,
    seconds: float,
) -> Duel:
    done, writer = Duel(), uuid4()
    key, end_ns = StreamKey(layout.device_id, stream_id), at_ns + round(seconds * 1e9)
    with connect(settings.conninfo, settings.schema) as connection:
        repository: Any = parse_arm(settings.arm).open(connection, settings.device_lock)
        stream = None
        if (early := at_ns - time.perf_counter_ns()) > 0:
            time.sleep(early / 1e9)
        while time.perf_counter_ns() < end_ns:
            try:
                if stream is None:
                    stream = repository.open(key, layout.recipe, writer)
                    done.claims += 1
                stream.store(batch_of([source.next(stream.head.last_scan + 1)], layout))
                done.stored += 1
            except StreamMoved:
                done.refused += 1
                stream = None
                time.sleep(_CLAIM_AGAIN_S)
            except DATABASE_ERRORS as exc:
                name = failure_of(exc).value
                done.failures[name] = done.failures.get(name, 0) + 1
                stream = None
                if connection.closed:
                    return done
    return done
