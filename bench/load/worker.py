"""What runs in a worker process: stores scans as fast as it goes, or at a rate fixed beforehand.

Plain functions with picklable arguments. A worker keeps its connection and repositories between
calls, so that caches, prepared statements and memory belong to its arm.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from bench.load.failures import DATABASE_ERRORS, MAY_SUCCEED_LATER, Failure, failure_of, reason_of
from bench.load.link import Link
from bench.load.loops import STORED, Attempt, closed_loop, open_loop
from bench.load.scan_source import PlcScans, PrecomputedScans, ScanSource
from bench.load.work import Loop, SlotRequest, SlotResult, WorkerInfo, WorkerSettings
from bench.measuring.latency import latencies_of
from bench.measuring.resources import is_postgres, process_use
from logger.scan import ScanLayout


def _private_bytes() -> int:
    """Private memory of this process without what waits for the garbage collector, or to be used again.

    What the allocator keeps is another number in each process: two equal arms would differ by it.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    use = process_use()
    assert use is not None
    return use.private_bytes


class Worker:
    """The state that a worker process keeps between calls."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._stored = self._scans = 0
        layouts: dict[int, ScanLayout] = {}
        sources: dict[int, ScanSource] = {}
        for n, config in zip(settings.machines, settings.configs(), strict=True):
            layouts[n] = ScanLayout(config)
            sources[n] = PlcScans(config, *settings.plc[n]) if settings.plc else PrecomputedScans(config)
        latencies_of([1])  # what our own recording needs belongs to the level that is subtracted
        self._bytes_before = _private_bytes()
        self.link = Link(settings, sources, layouts)

    def info(self) -> WorkerInfo:
        """Who we are, and whom we talk to."""
        backends = self.link.backends()
        local = all(is_postgres(pid) for pid in backends)
        return WorkerInfo(os.getpid(), backends[0], local, tuple(backends))

    def run(self, request: SlotRequest) -> SlotResult:
        """Run a slot. Raises DatabaseError if the database is away when it ends."""
        self._stored = self._scans = self.link.in_doubt = 0
        cpu_before = time.process_time()
        attempt = self._attempt(request)
        if request.ramp_s:
            closed_loop(attempt, request.ramp_s)
        saturated = paced = None
        if request.saturated_s:
            saturated = self._watched(lambda: closed_loop(attempt, request.saturated_s))
        if request.paced_s:
            paced = self._watched(lambda: open_loop(attempt, request.paced_s, request.rate_per_s))
        self._ensure_open()
        self._count_found()
        self.link.flush_statistics()
        return SlotResult(
            request.parameters,
            saturated,
            paced,
            self._stored,
            time.process_time() - cpu_before,
            _private_bytes() - self._bytes_before,
            self.link.backend_bytes(),
            self._scans,
            self.link.in_doubt,
        )

    def _watched(self, run: Callable[[], Loop]) -> Loop:
        """Run a loop; what it cost the backends in CPU, and its waits for the pool, go with its result."""
        if self.link.pool:
            self.link.pool.take_waits_ns()
        backends = self._backend_cpu()
        loop = run()
        waits = self.link.pool.take_waits_ns() if self.link.pool else []
        after = self._backend_cpu()
        backend_cpu_s = None
        if backends is not None and after is not None and backends.keys() == after.keys():
            backend_cpu_s = sum(after.values()) - sum(backends.values())
        return replace(loop, pool_wait=latencies_of(waits), backend_cpu_s=backend_cpu_s)

    def _backend_cpu(self) -> dict[int, float] | None:
        """None too where a connection is lost: then there is no backend to ask."""
        try:
            return self.link.backend_cpu() if self.link.is_open else None
        except DATABASE_ERRORS:
            return None

    def _ensure_open(self) -> None:
        if not self.link.is_open:
            self.link.open()

    def _count_found(self) -> int:
        """Count what was stored although we were not told; returns how many transactions that were."""
        found = self.link.found
        self._stored += found
        self._scans += self.link.found_scans
        self.link.found = self.link.found_scans = 0
        return found

    def _attempt(self, request: SlotRequest) -> Callable[[], Attempt]:
        """Stores the next scans, and says what became of them; after a lost connection it connects anew."""
        parameters, scans, most = request.parameters, request.scans, request.retries
        link = self.link

        def attempt() -> Attempt:
            retries = 0
            while True:
                try:
                    if not link.is_open:
                        link.open()
                        if self._count_found() and retries:  # the try before had been stored
                            return Attempt(Failure.RETRIED, "", retries)
                    link.writers[parameters].store_next(scans)
                except DATABASE_ERRORS as exc:
                    failure = failure_of(exc)
                    link.after(failure, parameters)
                    if retries < most and failure in MAY_SUCCEED_LATER:
                        retries += 1
                        continue
                    return Attempt(failure, reason_of(exc), retries)
                self._stored += 1
                self._scans += scans
                return Attempt(Failure.RETRIED, "", retries) if retries else STORED

        return attempt


_worker: Worker | None = None


@atexit.register  # a pool that the interpreter finds open at its end may wait for its threads
def close() -> None:
    """Close the worker's connection or pool."""
    if _worker is not None:
        _worker.link.close()


def prepare(settings: WorkerSettings) -> WorkerInfo:
    """Connect and get ready; called in each worker process, and again for other settings."""
    global _worker
    close()
    _worker = Worker(settings)
    return _worker.info()


def run_slot(request: SlotRequest) -> SlotResult:
    """Run a slot in the prepared worker."""
    assert _worker is not None
    return _worker.run(request)
