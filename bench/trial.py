"""One trial end to end: emulators and loggers in processes of their own, measured and verified."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from bench.arms import bench_schema, spawn_worker, workers_alive
from bench.emulators import emulated
from bench.latency import Latencies, Merged, latencies_of
from bench.machine import machine
from bench.resources import process_use, server_counters
from bench.spools import own_spool
from bench.verify import verify
from logger.database import connect
from logger.forwarding.forwarder import Stored
from logger.service import Hooks, run_logger
from logger.settings import Settings, at_address


@dataclass(frozen=True)
class Trial:
    """One cell of a sweep."""

    interval_s: float
    devices: int
    repository: str
    parameters: int
    duration_s: float

    def __str__(self) -> str:
        return f"{self.devices} × {self.parameters} parameters every {self.interval_s:g} s, {self.repository}"


@dataclass(frozen=True)
class LoggerRun:
    """What one logger process did."""

    scans: int
    missed: int
    read_errors: int
    stored_rows: int
    transactions: int
    seconds: float
    cpu_s: float
    private_bytes: int
    response: Latencies
    """Due time of a scan to its proven commit."""
    lag: Latencies
    """Due time of a scan to its start."""
    commit: Latencies
    """Start of a transaction to its proven commit."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial measured, of all its loggers together."""

    trial: Trial
    runs: list[LoggerRun]
    wal_bytes: int
    violations: int
    verification: dict[str, Any]

    @property
    def values_per_s(self) -> float:
        return sum(run.stored_rows / run.seconds for run in self.runs)

    @property
    def missed(self) -> int:
        return sum(run.missed for run in self.runs)

    def merged(self, name: str) -> Merged:
        """The loggers' histograms of response, lag or commit."""
        return Merged([getattr(run, name) for run in self.runs])

    def to_json(self) -> dict[str, Any]:
        trial = self.trial
        return {
            "interval_s": trial.interval_s,
            "devices": trial.devices,
            "repository": trial.repository,
            "parameters": trial.parameters,
            "duration_s": trial.duration_s,
            "values_per_s": round(self.values_per_s, 1),
            "missed": self.missed,
            "wal_bytes": self.wal_bytes,
            "verification": self.verification,
            "loggers": [
                {
                    "scans": run.scans,
                    "missed": run.missed,
                    "read_errors": run.read_errors,
                    "stored_rows": run.stored_rows,
                    "transactions": run.transactions,
                    "seconds": round(run.seconds, 4),
                    "cpu_s": round(run.cpu_s, 4),
                    "private_bytes": run.private_bytes,
                    "response": run.response.to_json(),
                    "lag": run.lag.to_json(),
                    "commit": run.commit.to_json(),
                }
                for run in self.runs
            ],
        }


def run_trial(trial: Trial, conninfo: str, monitor: Connection[Any]) -> TrialResult:
    """Run one trial in a schema of its own, which is gone afterwards."""
    configs = [machine(trial.parameters, f"bench-{n + 1}") for n in range(trial.devices)]
    with ExitStack() as stack:
        schema = stack.enter_context(bench_schema(monitor, conninfo, "sweep", configs))
        addresses = stack.enter_context(emulated(configs))
        workers = [stack.enter_context(spawn_worker()) for _ in configs]
        # All are waited for, so that no logger runs while another one is still being started.
        stack.enter_context(workers_alive())
        pids = [started.result() for started in [worker.submit(_started) for worker in workers]]
        before = server_counters(monitor, schema)
        futures = [
            worker.submit(
                log_device,
                Settings(
                    (at_address(config, host, port),),
                    conninfo,
                    stack.enter_context(own_spool()),
                    trial.repository,
                    trial.interval_s,
                    schema,
                    duration_s=trial.duration_s,
                ),
            )
            for worker, config, (host, port) in zip(workers, configs, addresses, strict=True)
        ]
        try:
            runs = [future.result() for future in futures]
        except BaseException:
            _stop(pids)
            raise
        after = server_counters(monitor, schema)
        with connect(conninfo, schema) as connection:
            verification = verify(connection)
        stored = sum(run.stored_rows for run in runs)
        if stored != verification.rows:
            lost = f"the loggers say that they stored {stored} history rows, there are {verification.rows}"
            verification.checks["I5"].violated(lost)
        return TrialResult(
            trial, runs, after.wal_bytes - before.wal_bytes, verification.violations, verification.to_json()
        )


def _started() -> int:
    """Runs in a worker; when it returns, everything that a logger needs is imported."""
    return os.getpid()


def _stop(pids: list[int]) -> None:
    """A logger drains and ends on SIGTERM, however long it was to run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def log_device(settings: Settings) -> LoggerRun:
    """Log one device for its duration, and store all of it; runs in a process of its own."""
    response: list[int] = []
    commit: list[int] = []
    lag: list[int] = []

    def on_stored(stored: Stored) -> None:
        response.extend(stored.committed_ns - scan.due_ns for scan in stored.scans)
        commit.append(stored.committed_ns - stored.started_ns)

    start, cpu_start = time.perf_counter(), time.process_time()
    status = run_logger(
        settings,
        Hooks(on_scan=lambda due, scan: lag.append(scan.started_ns - due.due_ns), on_stored=on_stored),
    )
    use = process_use()
    return LoggerRun(
        status.scans,
        status.missed,
        status.read_errors,
        status.stored_rows,
        status.transactions,
        time.perf_counter() - start,
        time.process_time() - cpu_start,
        use.private_bytes if use else 0,
        latencies_of(response),
        latencies_of(lag),
        latencies_of(commit),
    )
