"""What runs in a trial's process that makes its scans itself: so many a transaction, over a pool, open loop.

A thread for each device; all share one repository and one pool. Transaction k of a device is due when the
last of its scans is: `t0 + phase + ((k + 1) · scans - 1) · interval`, computed before the run and never
moved by what happened before. One that is late is stored at once; what has not been begun when the drain
is over counts as missed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import uuid4

from bench.arms.pool import open_pool
from bench.arms.spec import parse_arm
from bench.load.failures import DATABASE_ERRORS, failure_of
from bench.load.loops import wake_exactly
from bench.load.scan_source import PrecomputedScans
from bench.measuring.latency import latencies_of
from bench.measuring.resources import process_use
from bench.sweep.live import Report, tell
from bench.sweep.measured import LoggerRun
from bench.sweep.window import Stamps, Window
from logger.histogram import Histogram, together
from logger.reading.schedule import staggered
from logger.scan import ScanLayout, StreamKey, batch_of
from plcsim.config import DeviceConfig

_HEAD_START_NS = 200_000_000
"""From when all is ready to the first scan that is due."""
_SWITCH_S = 0.0005
"""As a logger has it: a thread that is due must not wait for what another computes."""
_STREAM = 1
_REPORT_S = 1.0


@dataclass(frozen=True)
class LoadRequest:
    """What to store, and what of it to measure."""

    conninfo: str
    schema: str
    arm: str
    devices: tuple[DeviceConfig, ...]
    interval_s: float
    """Of the scans of a device."""
    scans: int
    """Of a device in one transaction."""
    connections: int
    """Of the pool; 0: as the arm says, else one."""
    warm_up_s: float
    window_s: float
    drain_s: float
    process: int = 0
    report_to: int = 0


def make_and_store(request: LoadRequest) -> LoggerRun:
    """Run the load to its end. Raises PlcsimError."""
    sys.setswitchinterval(_SWITCH_S)
    arm = parse_arm(request.arm)
    size = request.connections or arm.settings.pool or 1
    with closing(open_pool(request.conninfo, request.schema, size, settings=arm.settings)) as pool:
        pool.wait()
        return _Load(request, arm.open(pool), pool).run()


class _Load:
    def __init__(self, request: LoadRequest, repository: Any, pool: Any) -> None:
        self._request = request
        self._pool = pool
        self._over = threading.Event()
        count = len(request.devices)
        self._devices = [
            _Device(request, repository, config, index, count, self._over)
            for index, config in enumerate(request.devices)
        ]

    def run(self) -> LoggerRun:
        request = self._request
        start, cpu_start = time.perf_counter(), time.process_time()
        begin_ns = time.monotonic_ns() + _HEAD_START_NS
        window_ns = begin_ns + round(request.warm_up_s * 1e9)
        window = Window(window_ns, window_ns + round(request.window_s * 1e9))
        give_up_ns = window.end_ns + round(request.drain_s * 1e9)
        with ThreadPoolExecutor(len(self._devices)) as threads:
            running = [threads.submit(device.run, begin_ns, window, give_up_ns) for device in self._devices]
            try:
                waits = self._watch(running, begin_ns, window)
            finally:
                self._over.set()
            for future in running:
                future.result()
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        use = process_use()
        stamps = [device.stamps for device in self._devices]
        return LoggerRun(
            scans=sum(device.stored + device.failed for device in self._devices),
            missed=sum(device.skipped for device in self._devices),
            read_errors=0,
            stored_rows=sum(device.stored * device.parameters for device in self._devices),
            transactions=sum(device.transactions for device in self._devices),
            seconds=seconds,
            cpu_s=cpu_s,
            private_bytes=use.private_bytes if use else 0,
            response=latencies_of(ns for each in stamps for ns in each.response(window)),
            service=latencies_of(ns for each in stamps for ns in each.service(window)),
            lag=latencies_of(ns for each in stamps for ns in each.lag(window)),
            commit=latencies_of(ns for each in stamps for ns in each.commit(window)),
            pool_wait=latencies_of(waits),
            window_rows=sum(each.rows_committed(window) for each in stamps),
            window_s=window.seconds,
            window_at=window.start_s,
            window_due=sum(device.due for device in self._devices),
            window_stored=sum(each.scans_stored(window) for each in stamps),
            response_parts=tuple(
                latencies_of(chain(*of_devices))
                for of_devices in zip(*(each.response_by_part(window) for each in stamps), strict=True)
            ),
            failures=dict(sum((device.failures for device in self._devices), Counter())),
        )

    def _watch(self, running: Sequence[Any], begin_ns: int, window: Window) -> list[int]:
        """Report once a second; returns the waits for a connection inside the window."""
        left, waits = set(running), []
        is_measured = False
        while left:
            now = time.monotonic_ns()
            edges = [edge for edge in (window.start_ns, window.end_ns) if edge > now]
            until_s = min([_REPORT_S, *((edge - now) / 1e9 for edge in edges)])
            done, left = wait(left, timeout=until_s, return_when="FIRST_EXCEPTION")
            if any(future.exception() for future in done):
                return []
            taken = self._pool.take_waits_ns()
            if is_measured:
                waits += taken
            is_measured = window.holds(time.monotonic_ns())
            self._report((time.monotonic_ns() - begin_ns) / 1e9)
        return waits

    def _report(self, seconds: float) -> None:
        tell(
            self._request.report_to,
            Report(
                self._request.process,
                sum(device.stored * device.parameters for device in self._devices),
                sum(device.skipped for device in self._devices),
                0,
                together([device.live.copy() for device in self._devices]),
                max(0.0, seconds),
            ),
        )


@dataclass
class _Device:
    """One device's scans on their way, in a thread of their own."""

    request: LoadRequest
    repository: Any
    config: DeviceConfig
    index: int
    count: int
    over: threading.Event
    stamps: Stamps = field(default_factory=Stamps)
    live: Histogram = field(default_factory=Histogram)
    failures: Counter[str] = field(default_factory=Counter)
    stored: int = 0
    """Scans, those included whose answer was lost and that were found afterwards."""
    transactions: int = 0
    failed: int = 0
    skipped: int = 0
    due: int = 0
    """Scans of the window."""

    def __post_init__(self) -> None:
        self.layout = ScanLayout(self.config)
        self.parameters = self.layout.size
        self._source = PrecomputedScans(self.config)
        self._writer = uuid4()
        self._key = StreamKey(self.layout.device_id, _STREAM)
        self._stream = self._open()

    def run(self, begin_ns: int, window: Window, give_up_ns: int) -> None:
        """Store everything that is due before the window's end."""
        wake_exactly()
        request = self.request
        interval_ns = round(request.interval_s * 1e9)
        first_ns = staggered(begin_ns, request.interval_s, self.index, self.count)
        transactions = -(-(window.end_ns - first_ns) // (interval_ns * request.scans))
        dues = [first_ns + n * interval_ns for n in range(transactions * request.scans)]
        self.due = sum(window.holds(due) for due in dues)
        for k in range(transactions):
            mine = dues[k * request.scans : (k + 1) * request.scans]
            self._wait_until(mine[-1])
            if self.over.is_set() or time.monotonic_ns() > give_up_ns:
                self.skipped += len(dues) - k * request.scans
                return
            self._attempt(mine)

    def _attempt(self, dues: Sequence[int]) -> None:
        begun = time.monotonic_ns()
        try:
            if self._stream is None:
                self._stream = self._reopened()
            first = self._stream.head.last_scan + 1
            scans = [self._source.next(first + n) for n in range(len(dues))]
            self._stream.store(batch_of(scans, self.layout))
        except DATABASE_ERRORS as exc:
            self.failures[failure_of(exc).value] += 1
            self.failed += len(dues)
            if self._stream is not None:
                self._last_scan = self._stream.head.last_scan
            self._stream = None
            return
        done = time.monotonic_ns()
        self.stored += len(dues)
        self.transactions += 1
        self.stamps.commits.append((begun, done))
        for due in dues:
            self.stamps.stored(due, begun, done, self.parameters)
            self.live.add((done - due) / 1e9)

    def _open(self) -> Any:
        return self.repository.open(self._key, self.layout.recipe, self._writer)

    def _reopened(self) -> Any:
        """After a failure: what was stored although we were not told counts as stored."""
        stream = self._open()
        if hasattr(stream, "resume"):  # an arm of yours, which only knows what it was told
            stream.resume(self._last_scan)
        found = stream.head.last_scan - self._last_scan
        self.stored += found
        self.failed -= found
        self.transactions += bool(found)
        return stream

    def _wait_until(self, at_ns: int) -> None:
        left = at_ns - time.monotonic_ns()
        if left > 0:
            self.over.wait(left / 1e9)
