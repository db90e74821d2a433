"""What one logger's memory is, measured in a process of its own: by size, and over time.

Plain functions with picklable arguments, each for a fresh worker process: what another size has left behind
would be counted otherwise. Used memory is private memory above what the process had, scans at hand, before it
connected; the peak is the kernel's high-water mark of resident memory above the same moment.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.arms.spec import parse_arm
from bench.load.scan_source import PrecomputedScans
from bench.measuring.latency import Latencies, latencies_of
from bench.measuring.resources import is_postgres, process_use
from bench.suite.crowd import crowd_device
from logger.database import connect, mapped_errors
from logger.scan import ScanLayout, StreamKey, batch_of

_LOOKS_OF_WINDOW = 6
_MOST_DURATIONS = 50_000
_SLOTS = 4


@dataclass(frozen=True)
class ProbeSettings:
    """One logger: a stream of the crowd's device 0, or of another one."""

    conninfo: str
    schema: str
    arm: str
    parameters: int
    scans: int
    """Of a transaction."""
    seconds: float
    device: int = 0
    stream_id: int = 1
    rate_per_s: float = 0.0
    """Transactions; 0: as fast as it goes."""
    window_s: float = 0.0
    """Memory is looked at several times in each; 0: at the end alone."""


@dataclass(frozen=True)
class MemoryUse:
    """Memory of one logger."""

    transactions: int
    rows: int
    used_bytes: int
    peak_bytes: int
    interpreter_bytes: int
    """Private memory with all modules, before anything was made."""
    backend_bytes: int | None
    """Private memory of its PostgreSQL backend; None if that is on another machine."""
    duration: Latencies
    """Of the transactions."""
    rates_per_s: tuple[float, ...] = ()
    """Values stored in a second, of slots of consecutive transactions; none where there are too few."""
    times_s: tuple[float, ...] = ()
    """When memory was looked at, from the start on."""
    worker_bytes: tuple[int, ...] = ()
    backend_over_time: tuple[int, ...] = ()


def probe(settings: ProbeSettings) -> MemoryUse:
    """Store for some seconds and say what memory that took; raises DatabaseError."""
    interpreter = _private_bytes()
    config = crowd_device(settings.parameters, settings.device)
    layout, source = ScanLayout(config), PrecomputedScans(config)
    record = _Record(settings)
    latencies_of([1])  # what our own recording needs belongs to the level that is subtracted
    before, resident = _private_bytes(), _reset_peak()
    with connect(settings.conninfo, settings.schema) as connection, mapped_errors():
        arm = parse_arm(settings.arm)
        stream: Any = arm.open(connection).open(
            StreamKey(layout.device_id, settings.stream_id), layout.recipe
        )
        backend = _Backend(connection.info.backend_pid)

        def store() -> None:
            first = stream.head.last_scan + 1
            scans = [source.next(number) for number in range(first, first + settings.scans)]
            began = time.perf_counter_ns()
            stream.store(batch_of(scans, layout))
            record.took(time.perf_counter_ns() - began)

        _run(settings, store, backend, record)
        used, peak = _private_bytes() - before, _peak_bytes() - resident
        return MemoryUse(
            record.transactions,
            record.transactions * settings.scans * layout.size,
            used,
            max(peak, used),
            interpreter,
            backend.bytes(),
            latencies_of(record.durations[: record.transactions].tolist()),
            record.rates_per_s(settings.scans * layout.size),
            *record.samples(),
        )


class _Record:
    """What is written down meanwhile, in room that is taken beforehand: it must not look like a leak."""

    def __init__(self, settings: ProbeSettings) -> None:
        looks = 16
        if settings.window_s:
            looks += round(_LOOKS_OF_WINDOW * settings.seconds / settings.window_s)
        self.durations = np.ones(_MOST_DURATIONS, dtype=np.int64)
        self.transactions = 0
        self.looks = 0
        self._at_s = np.ones(looks)
        self._bytes = np.ones((2, looks), dtype=np.int64)

    def took(self, nanoseconds: int) -> None:
        if self.transactions < _MOST_DURATIONS:
            self.durations[self.transactions] = nanoseconds
        self.transactions += 1

    @property
    def has_room(self) -> bool:
        """Whether one more look can be written down."""
        return self.looks < len(self._at_s)

    def look(self, at_s: float, worker: int, backend: int | None) -> None:
        self._at_s[self.looks] = at_s
        self._bytes[:, self.looks] = worker, -1 if backend is None else backend
        self.looks += 1

    def rates_per_s(self, rows: int) -> tuple[float, ...]:
        """Rows stored in a second, in each quarter of the transactions but the first, which prepares."""
        kept = self.durations[1 : min(self.transactions, _MOST_DURATIONS)]
        if len(kept) < 2 * _SLOTS:
            return ()
        return tuple(rows * len(slot) / (slot.sum() / 1e9) for slot in np.array_split(kept, _SLOTS))

    def samples(self) -> tuple[tuple[float, ...], tuple[int, ...], tuple[int, ...]]:
        """Times, the worker's bytes, and the backend's if it is on this machine."""
        worker, backend = (tuple(row) for row in self._bytes[:, : self.looks].tolist())
        return tuple(self._at_s[: self.looks].tolist()), worker, backend if -1 not in backend else ()


def _run(settings: ProbeSettings, store: Callable[[], None], backend: _Backend, record: _Record) -> None:
    """Store at the rate; a thread looks at memory meanwhile, however long a transaction takes."""
    start, over = time.perf_counter(), threading.Event()
    watch = threading.Thread(target=_look, args=(settings, start, over, backend, record))
    if settings.window_s:
        watch.start()
    try:
        while (at := time.perf_counter() - start) < settings.seconds or not record.transactions:
            due = record.transactions / settings.rate_per_s if settings.rate_per_s else 0.0
            if at < due:
                time.sleep(min(due, settings.seconds) - at)
                continue
            store()
    finally:
        over.set()
        if settings.window_s:
            watch.join()


def _look(
    settings: ProbeSettings, start: float, over: threading.Event, backend: _Backend, record: _Record
) -> None:
    """Look several times in each window, at its edge after a garbage collection."""
    look_s = settings.window_s / _LOOKS_OF_WINDOW
    while record.has_room and not over.wait(max(0.0, start + look_s * record.looks - time.perf_counter())):
        if record.looks % _LOOKS_OF_WINDOW == 0:
            gc.collect()
        use = process_use()
        assert use is not None
        record.look(time.perf_counter() - start, use.private_bytes, backend.bytes())


class _Backend:
    """The PostgreSQL process of a session, if it is on this machine."""

    def __init__(self, pid: int) -> None:
        self._pid = pid if is_postgres(pid) else None

    def bytes(self) -> int | None:
        use = process_use(self._pid) if self._pid else None
        return use.private_bytes if use else None


def _private_bytes() -> int:
    """Private memory of this process without what waits for the garbage collector, or to be used again."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    use = process_use()
    assert use is not None
    return use.private_bytes


def _reset_peak() -> int:
    """Begin the high-water mark anew where the kernel allows it; returns what is resident now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux, man proc_pid_clear_refs
    return _status("VmRSS") or _peak_bytes()


def _peak_bytes() -> int:
    """The high-water mark of resident memory."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(key: str) -> int:
    """A line of /proc/self/status in bytes; 0 where the system has none."""
    with suppress(OSError):
        for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0
