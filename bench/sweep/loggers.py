"""What runs in a trial's logger process: the real logger, watched from inside by its hooks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from dataclasses import dataclass, field, replace

from bench.arms.spec import parse_arm
from bench.measuring.latency import latencies_of
from bench.measuring.resources import process_use
from bench.sweep.live import Report, tell
from bench.sweep.measured import LoggerRun
from bench.sweep.window import Stamps, Window
from logger.figures import Figures
from logger.forwarding.forwarder import Stored
from logger.reading.schedule import Due
from logger.repositories import REPOSITORIES
from logger.scan import Scan, StreamKey
from logger.service import Hooks, run_logger
from logger.settings import Settings, logged_streams

_TOO_LONG_S = 60.0
"""After the end of its window a logger that never had a scan to end it ends by itself."""


@dataclass(frozen=True)
class LogRequest:
    """What to log, and what of it to measure."""

    settings: Settings
    """Whose repository may be any arm."""
    warm_up_s: float
    window_s: float
    process: int = 0
    """By which its reports are known."""
    report_to: int = 0
    """Port of whoever wants to know how it stands; 0: nobody."""


def log_device(settings: Settings) -> LoggerRun:
    """Log for the settings' duration, and store all of it; all is measured."""
    assert settings.duration_s is not None
    return log_devices(LogRequest(settings, 0.0, settings.duration_s))


def log_devices(request: LogRequest) -> LoggerRun:
    """Log until the window's end, store what waits, and say what was measured. Raises PlcsimError."""
    logging.getLogger("logger").addHandler(logging.NullHandler())  # what it warns of is counted here
    return _Logging(request).run()


@dataclass
class _Logging:
    request: LogRequest
    stamps: Stamps = field(default_factory=Stamps)
    first_due: dict[StreamKey, int] = field(default_factory=dict)
    """When each stream's first scan was due."""
    served: int = 0
    spooled_most: int = 0

    def run(self) -> LoggerRun:
        request, settings = self.request, self.request.settings
        repository = _registered(settings.repository)
        duration_s = request.warm_up_s + request.window_s
        start, cpu_start = time.perf_counter(), time.process_time()
        status = run_logger(
            replace(settings, repository=repository, duration_s=duration_s + _TOO_LONG_S),
            Hooks(on_status=self._report, on_scan=self._on_scan, on_stored=self._on_stored),
        )
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        use = process_use()
        stamps, window = self.stamps, self._window()
        stored = stamps.scans_stored(window)
        return LoggerRun(
            scans=status.scans,
            missed=status.missed,
            read_errors=status.read_errors,
            stored_rows=status.stored_rows,
            transactions=status.transactions,
            seconds=seconds,
            cpu_s=cpu_s,
            private_bytes=use.private_bytes if use else 0,
            response=latencies_of(stamps.response(window)),
            service=latencies_of(stamps.service(window)),
            lag=latencies_of(stamps.lag(window)),
            commit=latencies_of(stamps.commit(window)),
            pool_wait=latencies_of([]),
            window_rows=stamps.rows_committed(window),
            window_s=window.seconds,
            window_at=window.start_s,
            window_due=max(self._due(window), stored),
            window_stored=stored,
            response_parts=tuple(latencies_of(part) for part in stamps.response_by_part(window)),
            spooled_most=self.spooled_most,
            spooled_left=status.spool.depth,
            failures=dict(status.retries),
        )

    def _window(self) -> Window:
        begin = min(self.first_due.values(), default=time.monotonic_ns())
        start = begin + round(self.request.warm_up_s * 1e9)
        return Window(start, start + round(self.request.window_s * 1e9))

    def _due(self, window: Window) -> int:
        """Scans due in the window; a stream that nothing was stored of counts as begun with the others."""
        begin = window.start_ns - round(self.request.warm_up_s * 1e9)
        return sum(
            window.due(self.first_due.get(stream.key, begin), round(stream.interval_s * 1e9))
            for stream in logged_streams(self.request.settings)
            if stream.interval_s
        )

    def _on_scan(self, due: Due, scan: Scan) -> None:
        if not self.served:
            self._end_in_time(due)
        self.served += 1

    def _end_in_time(self, due: Due) -> None:
        """The window begins with the first scan, however long the logger took to come to it."""
        passed_s = (time.monotonic_ns() - due.due_ns) / 1e9
        left_s = self.request.warm_up_s + self.request.window_s - passed_s
        asyncio.get_running_loop().call_later(max(0.0, left_s), os.kill, os.getpid(), signal.SIGTERM)

    def _on_stored(self, stored: Stored) -> None:
        rows = len(stored.batch.value) // max(1, len(stored.scans))
        for scan in stored.scans:
            if not scan.due_ns:
                continue  # read back from the spool's files, which do not keep it
            self.stamps.stored(scan.due_ns, scan.started_ns, stored.committed_ns, rows)
            self.first_due.setdefault(stored.key, scan.due_ns)
        self.stamps.commits.append((stored.started_ns, stored.committed_ns))

    def _report(self, figures: Figures) -> None:
        self.spooled_most = max(self.spooled_most, figures.spooled)
        first = min(self.first_due.values(), default=0)
        seconds = (time.monotonic_ns() - first) / 1e9 if first else 0.0
        tell(
            self.request.report_to,
            Report(
                self.request.process,
                figures.stored_rows,
                figures.missed,
                figures.spooled,
                figures.latencies.response.copy(),
                seconds,
            ),
        )


def _registered(arm: str) -> str:
    """The name by which the logger of this process finds an arm among its repositories."""
    if arm in REPOSITORIES:
        return arm
    name = f"arm {arm}"  # not the arm's own, by which it is parsed
    REPOSITORIES[name] = parse_arm(arm).open  # type: ignore[assignment]  # it is called with a connection
    return name
