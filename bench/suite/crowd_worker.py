"""The writers of a crowd that run in one worker process, each a thread; see bench.suite.crowd.

Plain functions with picklable arguments; the process keeps its connections between calls.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from psycopg import Connection

from bench.arms.spec import parse_arm
from bench.load.failures import DATABASE_ERRORS, Failure, failure_of
from bench.load.scan_source import PrecomputedScans
from bench.measuring.latency import Latencies, latencies_of
from bench.suite.crowd import SAME, CrowdRequest, CrowdResult, CrowdSettings, crowd_device
from bench.suite.crowd_pool import CrowdPool
from logger.database import configure_session, connect, mapped_errors
from logger.scan import ScanLayout, StreamKey, batch_of

APPLICATION = "plcbench crowd"
_POOL_TIMEOUT_S = 10.0
_PREPARED = 64
"""PLC scans of each device that are stored in turn: there may be a hundred devices."""
_UNLIKE_PLANS = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")


@dataclass
class _Tally:
    """What one writer did in one go."""

    tried: int = 0
    stored: int = 0
    scans: int = 0
    """That were stored; those too whose answer was lost."""
    last_scan: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    contexts: Counter[str] = field(default_factory=Counter)
    service: list[int] = field(default_factory=list)
    response: list[int] = field(default_factory=list)
    pool_wait: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    ended_ns: int = 0


class _Writer:
    """One writer's streams; used by one thread at a time."""

    def __init__(self, crowd: _Crowd, number: int) -> None:
        self._crowd, self._number = crowd, number
        self._id = uuid4()
        self._repository: Any = None
        self._connection: Connection[Any] | None = None
        self._streams: dict[str, Any] = {}
        self._last_scan: dict[str, int] = {}
        """Where a stream stood that was given up."""

    def go(self, request: CrowdRequest) -> _Tally:
        """Begin at the common moment, and go on until the time is over."""
        tally = _Tally()
        if (early := request.at_ns - time.perf_counter_ns()) > 0:
            time.sleep(early / 1e9)
        due, end_ns = request.at_ns, request.at_ns + round(request.seconds * 1e9)
        while True:
            self._attempt(request, due, tally)
            due = tally.ended_ns = time.perf_counter_ns()
            if due >= end_ns:
                return tally

    def _attempt(self, request: CrowdRequest, due: int, tally: _Tally) -> None:
        rows, pool, begun = request.rows, self._crowd.pool, time.perf_counter_ns()
        tally.tried += 1
        try:
            stream = self._stream(rows, tally)
            layout, source = self._crowd.of_device(self._device(rows))
            first = stream.head.last_scan + 1
            scans = [source.next(number) for number in range(first, max(first, request.up_to) + 1)]
            stream.store(batch_of(scans, layout))
        except DATABASE_ERRORS as exc:
            tally.failed.append(time.perf_counter_ns() - due)
            failure = failure_of(exc)
            tally.failures[failure.value] += 1
            if failure is Failure.DEADLOCK:
                tally.contexts[_context_of(exc)] += 1
            if pool:
                pool.take_waited_ns()
            self._give_up(rows)
            return
        done = time.perf_counter_ns()
        waited = pool.take_waited_ns() if pool else 0
        tally.stored += 1
        tally.scans += len(scans)
        tally.last_scan = stream.head.last_scan
        tally.response.append(done - due)
        tally.service.append(done - begun - waited)
        if pool:
            tally.pool_wait.append(waited)

    def _stream(self, rows: str, tally: _Tally) -> Any:
        """The stream, opened anew after an error; what was stored although we were not told is counted."""
        if rows not in self._streams:
            if self._repository is None:
                self._repository = self._crowd.shared_repository or self._own_repository()
            layout, _ = self._crowd.of_device(self._device(rows))
            key = StreamKey(layout.device_id, self._number)
            stream = self._repository.open(key, layout.recipe, self._id)
            if self._crowd.arm.is_ours:
                tally.scans += stream.head.last_scan - self._last_scan.get(rows, stream.head.last_scan)
            else:
                stream.resume(self._last_scan.get(rows, 0))
            self._streams[rows] = stream
        return self._streams[rows]

    def _own_repository(self) -> Any:
        settings = self._crowd.settings
        self._connection = connect(settings.conninfo, settings.schema)
        self._crowd.configure(self._connection, self._number)
        return self._crowd.arm.open(self._connection, settings.device_lock)

    def _give_up(self, rows: str) -> None:
        """After an error: a stream whose standing is certain goes on, what else there is is opened anew."""
        if self._connection is not None and self._connection.closed:
            for each, stream in self._streams.items():
                self._last_scan[each] = stream.head.last_scan
            self._streams, self._repository, self._connection = {}, None, None
        elif rows in self._streams and not self._streams[rows].is_certain:
            self._last_scan[rows] = self._streams.pop(rows).head.last_scan

    def _device(self, rows: str) -> int:
        return 0 if rows == SAME else self._number

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _Crowd:
    """The state that a worker process keeps between calls."""

    def __init__(self, settings: CrowdSettings, rows: Sequence[str]) -> None:
        self.settings = settings
        self.arm = parse_arm(settings.arm)
        self.pool: CrowdPool | None = None
        self.shared_repository: Any = None
        self._sessions = 0
        numbers = range(settings.first, settings.first + settings.writers)
        devices = {0 if each == SAME else number for each in rows for number in numbers}
        self._devices = {number: self._made(number) for number in sorted(devices)}
        self._writers = [_Writer(self, number) for number in numbers]
        self._threads = ThreadPoolExecutor(settings.writers)
        if settings.pool:
            self.pool = CrowdPool(
                settings.conninfo, settings.schema, settings.pool, _POOL_TIMEOUT_S, self._configure_pooled
            )
            with mapped_errors():
                self.pool.wait_until_full(_POOL_TIMEOUT_S)
            self.shared_repository = self.arm.open(self.pool, settings.device_lock)

    def of_device(self, number: int) -> tuple[ScanLayout, PrecomputedScans]:
        return self._devices[number]

    def _made(self, number: int) -> tuple[ScanLayout, PrecomputedScans]:
        config = crowd_device(self.settings.parameters, number, self.settings.running)
        return ScanLayout(config), PrecomputedScans(config, _PREPARED)

    def configure(self, connection: Connection[Any], number: int) -> None:
        """Make a session what the settings want it to be."""
        _set(connection, "application_name", APPLICATION)
        self.arm.settings.configure(connection)
        if self.settings.deadlock_timeout:
            with contextlib.suppress(*DATABASE_ERRORS):  # only a superuser may
                _set(connection, "deadlock_timeout", self.settings.deadlock_timeout)
        if self.settings.unlike_plans and number % 2:
            for name in _UNLIKE_PLANS:
                _set(connection, name, "off")

    def _configure_pooled(self, connection: Connection[Any]) -> None:
        configure_session(connection, self.settings.schema)
        self._sessions += 1
        self.configure(connection, self._sessions)

    def run(self, request: CrowdRequest) -> CrowdResult:
        """One go of all writers."""
        held_ns = self.pool.held_ns if self.pool else 0
        tallies = list(self._threads.map(lambda writer: writer.go(request), self._writers))
        return _result(
            tallies,
            (max(tally.ended_ns for tally in tallies) - request.at_ns) / 1e9,
            (self.pool.held_ns - held_ns) / 1e9 if self.pool else 0.0,
            self.settings.parameters,
        )

    def close(self) -> None:
        self._threads.shutdown()
        for writer in self._writers:
            writer.close()
        if self.pool:
            self.pool.close()


def _result(tallies: Sequence[_Tally], seconds: float, held_s: float, parameters: int) -> CrowdResult:
    def all_of(kind: str) -> Latencies:
        return latencies_of([value for tally in tallies for value in getattr(tally, kind)])

    return CrowdResult(
        seconds=seconds,
        tried=sum(tally.tried for tally in tallies),
        stored=sum(tally.stored for tally in tallies),
        rows=parameters * sum(tally.scans for tally in tallies),
        last_scan=max(tally.last_scan for tally in tallies),
        failures=dict(sum((tally.failures for tally in tallies), Counter[str]())),
        service=all_of("service"),
        response=all_of("response"),
        pool_wait=all_of("pool_wait"),
        failed=all_of("failed"),
        pool_held_s=held_s,
        contexts=dict(sum((tally.contexts for tally in tallies), Counter[str]())),
    )


def _set(connection: Connection[Any], name: str, value: str) -> None:
    connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def _context_of(exc: BaseException) -> str:
    """Where the server says that a deadlock was, without the row: 'while updating tuple in relation …'."""
    said = getattr(getattr(exc, "diag", None), "context", None)
    if not said:
        return "the server did not say where"
    line = str(said).splitlines()[0]
    before, _, after = line.partition("(")
    return before + after.partition(") ")[2] if after else line


_crowd: _Crowd | None = None


def prepare_crowd(settings: CrowdSettings, rows: Sequence[str]) -> list[CrowdResult]:
    """Get the writers ready, and let each store one transaction on each kind of rows."""
    global _crowd
    close_crowd()
    _crowd = _Crowd(settings, rows)
    return [_crowd.run(CrowdRequest(each, time.perf_counter_ns())) for each in rows]


def run_crowd(request: CrowdRequest) -> CrowdResult:
    """One go of the prepared writers."""
    assert _crowd is not None
    return _crowd.run(request)


def close_crowd() -> None:
    """Close what the writers have open."""
    global _crowd
    if _crowd is not None:
        _crowd.close()
        _crowd = None
