"""What runs in a worker process: stores scans as fast as it goes, or at a rate fixed beforehand.

Plain functions with picklable arguments. A worker keeps its connection and repositories between
calls, so that caches, prepared statements and memory belong to its arm.

Open loop: the start of scan i is `t0 + i/rate`, computed before the run and never moved by what
happened before. response = wait + service, counted from that intended start; a scan that is late is
stored at once, and what has not been started one window after the end counts as skipped.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import psycopg

from bench.latency import Latencies, latencies_of
from bench.machine import machine
from bench.resources import ProcessUse, is_postgres, process_use
from bench.scan_source import PlcScans, PrecomputedScans, ScanSource
from logger.database import connect
from logger.errors import DatabaseError
from logger.repositories import REPOSITORIES, Repository, SharedSynchronizingRepository, Stream
from logger.scan import ScanLayout, StreamKey, batch_of
from plcsim.config import DeviceConfig

_SPIN_NS = 200_000
"""The system wakes a sleeper late; the last part before an intended start is waited for awake."""

SHARED_SYNCHRONIZING = "synchronizing (several writers a device)"
_REPOSITORIES: dict[str, type[Repository]] = {
    **REPOSITORIES,
    SHARED_SYNCHRONIZING: SharedSynchronizingRepository,
}


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker measures with."""

    conninfo: str
    schema: str
    repository: str
    machines: tuple[int, ...]
    """Parameter counts; the machine of n parameters is device `device_id_of(n)`."""
    running: bool
    stream_id: int = 1
    plc: dict[int, tuple[str, int]] | None = None
    """Where the emulators of the machines listen; None: scans are made in the worker."""

    def configs(self) -> list[DeviceConfig]:
        """The machines as devices."""
        return [machine(n, device_id_of(n), self.running) for n in self.machines]


@dataclass(frozen=True)
class WorkerInfo:
    """Who the worker is."""

    pid: int
    backend_pid: int
    server_is_local: bool


@dataclass(frozen=True)
class SlotRequest:
    """One slot: a part at saturation and a part at a fixed rate; 0 seconds leaves a part out."""

    parameters: int
    ramp_s: float = 0.1
    """Run first and thrown away."""
    saturated_s: float = 0.0
    paced_s: float = 0.0
    rate_per_s: float = 0.0


@dataclass(frozen=True)
class Loop:
    """What one part of a slot did."""

    seconds: float
    transactions: int
    failures: dict[str, int]
    """By SQLSTATE, or the error's name where it has none."""
    skipped: int
    service: Latencies
    response: Latencies
    wait: Latencies

    @property
    def per_second(self) -> float:
        return self.transactions / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class SlotResult:
    """What one slot did."""

    parameters: int
    saturated: Loop | None
    paced: Loop | None
    transactions: int
    """All that were stored, ramp included."""
    cpu_s: float
    worker_bytes: int
    """Private memory above what the worker had, scans at hand, before it opened its repositories."""
    backend_bytes: int | None
    """Private memory of the worker's PostgreSQL backend; None if it is on another machine."""


def _private_bytes() -> int:
    """Private memory of this process without what only waits for the garbage collector."""
    gc.collect()
    use = process_use()
    assert use is not None
    return use.private_bytes


def device_id_of(parameters: int) -> str:
    return f"bench-{parameters}"


class _Writer:
    """One machine's scans on their way into one schema."""

    def __init__(self, source: ScanSource, stream: Stream, layout: ScanLayout) -> None:
        self._source, self._stream, self._layout = source, stream, layout

    @property
    def last_scan(self) -> int:
        """The last scan that is known to be stored."""
        return self._stream.head.last_scan

    def store_next(self) -> None:
        scan = self._source.next(self.last_scan + 1)
        self._stream.store(batch_of([scan], self._layout))


class _Worker:
    """The state that a worker process keeps between calls."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._stored = 0
        self._last_scan: dict[int, int] = {}
        """Where each stream stood when the connection was lost."""
        self._layouts: dict[int, ScanLayout] = {}
        self._sources: dict[int, ScanSource] = {}
        for n, config in zip(settings.machines, settings.configs(), strict=True):
            self._layouts[n] = ScanLayout(config)
            self._sources[n] = (
                PlcScans(config, *settings.plc[n]) if settings.plc else PrecomputedScans(config)
            )
        latencies_of([1])  # what our own recording needs belongs to the level that is subtracted
        self._bytes_before = _private_bytes()
        self._writer = uuid4()
        self._open()

    def _open(self) -> None:
        """Connect; what was stored although we were not told counts as stored."""
        settings = self._settings
        self.connection = connect(settings.conninfo, settings.schema)
        repository = _REPOSITORIES[settings.repository](self.connection)
        self.writers = {
            n: _Writer(
                self._sources[n],
                repository.open(StreamKey(layout.device_id, settings.stream_id), layout.recipe, self._writer),
                layout,
            )
            for n, layout in self._layouts.items()
        }
        for n, last_scan in self._last_scan.items():
            self._stored += self.writers[n].last_scan - last_scan
        self._last_scan = {}

    def _disconnect(self) -> None:
        if not self._last_scan:
            self._last_scan = {n: writer.last_scan for n, writer in self.writers.items()}
        self.connection.close()

    def info(self) -> WorkerInfo:
        backend = self.connection.info.backend_pid
        return WorkerInfo(os.getpid(), backend, is_postgres(backend))

    def run(self, request: SlotRequest) -> SlotResult:
        self._stored = 0
        cpu_before = time.process_time()
        self._closed_loop(request.parameters, request.ramp_s)
        saturated = (
            self._closed_loop(request.parameters, request.saturated_s) if request.saturated_s else None
        )
        paced = (
            self._open_loop(request.parameters, request.paced_s, request.rate_per_s)
            if request.paced_s
            else None
        )
        if self.connection.closed:
            self._open()
        self.connection.execute("SELECT pg_stat_force_next_flush()")
        cpu_s = time.process_time() - cpu_before
        return SlotResult(
            request.parameters,
            saturated,
            paced,
            self._stored,
            cpu_s,
            _private_bytes() - self._bytes_before,
            self._backend_bytes(),
        )

    def _backend_bytes(self) -> int | None:
        info = self.info()
        use: ProcessUse | None = process_use(info.backend_pid) if info.server_is_local else None
        return use.private_bytes if use else None

    def _closed_loop(self, parameters: int, seconds: float) -> Loop:
        attempt = self._attempt(parameters)
        failures: Counter[str] = Counter()
        service: list[int] = []
        start = now = time.perf_counter_ns()
        end = start + round(seconds * 1e9)
        while now < end:
            failure = attempt()
            done = time.perf_counter_ns()
            if failure:
                failures[failure] += 1
            else:
                service.append(done - now)
            now = done
        none = latencies_of([])
        return Loop((now - start) / 1e9, len(service), dict(failures), 0, latencies_of(service), none, none)

    def _open_loop(self, parameters: int, seconds: float, rate_per_s: float) -> Loop:
        attempt = self._attempt(parameters)
        failures: Counter[str] = Counter()
        service: list[int] = []
        response: list[int] = []
        wait: list[int] = []
        planned, period_ns = max(1, int(seconds * rate_per_s)), 1e9 / rate_per_s
        start = time.perf_counter_ns()
        give_up = start + round(2 * seconds * 1e9)
        done = start
        index = 0
        while index < planned and done < give_up:
            intended = start + round(index * period_ns)
            begun = _wait_until(intended)
            failure = attempt()
            done = time.perf_counter_ns()
            if failure:
                failures[failure] += 1
            else:
                service.append(done - begun)
                response.append(done - intended)
                wait.append(begun - intended)
            index += 1
        return Loop(
            max(seconds, (done - start) / 1e9),
            len(service),
            dict(failures),
            planned - index,
            latencies_of(service),
            latencies_of(response),
            latencies_of(wait),
        )

    def _attempt(self, parameters: int) -> Callable[[], str]:
        """Stores the next scan; returns "" or what failed. The next attempt after that connects anew."""

        def attempt() -> str:
            try:
                if self.connection.closed:
                    self._open()
                self.writers[parameters].store_next()
            except (psycopg.Error, DatabaseError) as exc:
                self._disconnect()
                return getattr(exc, "sqlstate", None) or type(exc).__name__
            self._stored += 1
            return ""

        return attempt


def _wait_until(intended_ns: int) -> int:
    """Return the time once it is `intended_ns` or later; at once if it is late already."""
    now = time.perf_counter_ns()
    if intended_ns - now > _SPIN_NS:
        time.sleep((intended_ns - now - _SPIN_NS) / 1e9)
        now = time.perf_counter_ns()
    while now < intended_ns:
        now = time.perf_counter_ns()
    return now


_worker: _Worker | None = None


def prepare(settings: WorkerSettings) -> WorkerInfo:
    """Connect and get ready; called once in each worker process."""
    global _worker
    _worker = _Worker(settings)
    return _worker.info()


def run_slot(request: SlotRequest) -> SlotResult:
    """Run a slot in the prepared worker."""
    assert _worker is not None
    return _worker.run(request)


def close() -> None:
    """Close the worker's connection."""
    if _worker is not None:
        _worker.connection.close()
