"""What a trial measured: of each process, of all of them, and as JSON that can be read back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.measuring.latency import Latencies, Merged
from bench.measuring.resources import ProcessUse
from bench.sweep.cell import Trial


@dataclass(frozen=True)
class LoggerRun:
    """What one process that stores did."""

    scans: int
    """That were read, or made."""
    missed: int
    """Scans whose time passed unserved."""
    read_errors: int
    stored_rows: int
    transactions: int
    seconds: float
    """From the start of the process's work until all was stored."""
    cpu_s: float
    private_bytes: int
    response: Latencies
    """Due time of a scan to its proven commit."""
    service: Latencies
    """Start of a scan to its proven commit."""
    lag: Latencies
    """Due time of a scan to its start."""
    commit: Latencies
    """Start of a transaction to its proven commit."""
    pool_wait: Latencies
    """For a connection; nothing where a logger stores, whose writers keep theirs."""
    window_rows: int
    """History rows committed inside the measurement window."""
    window_s: float
    window_at: float
    """When it began, seconds since 1970."""
    window_due: int
    """Scans due inside the window."""
    window_stored: int
    """Of these, how many were stored, be it later."""
    response_parts: tuple[Latencies, ...] = ()
    """The response again, by the part of the window in which the scan was due: a second each, 300 at most."""
    spooled_most: int = 0
    """Most scans that waited in the spool, looked at each second."""
    spooled_left: int = 0
    """Scans that were still in the spool at the end of its drain."""
    failures: dict[str, int] = field(default_factory=dict)
    """Tries to store that failed, by kind."""

    @property
    def response_by_s(self) -> list[tuple[float, Latencies]]:
        """The parts of the response, each with its begin in seconds since 1970; their length is `part_s`."""
        return [(self.window_at + n * self.part_s, part) for n, part in enumerate(self.response_parts)]

    @property
    def part_s(self) -> float:
        return self.window_s / max(1, len(self.response_parts))


@dataclass(frozen=True)
class TrialResult:
    """What a trial measured, of all its processes together."""

    trial: Trial
    runs: list[LoggerRun]
    wal_bytes: int
    violations: int
    verification: dict[str, Any]
    emulators: list[ProcessUse] = field(default_factory=list)
    """CPU since the logging began, and memory at its end, of each emulator process."""
    backends: list[ProcessUse] = field(default_factory=list)
    """The same of the server's processes for our connections, seen last within a second of their end; none
    where the server is on another machine."""
    doubts: list[str] = field(default_factory=list)
    """What besides the conditions may have made these figures."""

    @property
    def values_per_s(self) -> float:
        """History rows committed inside the window, a second: the rate achieved."""
        return sum(run.window_rows / run.window_s for run in self.runs if run.window_s)

    @property
    def missed(self) -> int:
        return sum(run.missed for run in self.runs)

    @property
    def success(self) -> tuple[int, int]:
        """Scans due inside the window that were stored, and all that were due."""
        return sum(run.window_stored for run in self.runs), sum(run.window_due for run in self.runs)

    @property
    def spooled_most(self) -> int:
        return sum(run.spooled_most for run in self.runs)

    @property
    def scans_a_transaction(self) -> float:
        rows, transactions = self.stored_rows, sum(run.transactions for run in self.runs)
        return rows / self.trial.parameters / transactions if transactions else math.nan

    @property
    def stored_rows(self) -> int:
        return sum(run.stored_rows for run in self.runs)

    @property
    def failures(self) -> dict[str, int]:
        return dict(sum((Counter(run.failures) for run in self.runs), Counter()))

    def merged(self, name: str) -> Merged:
        """The processes' histograms of response, service, lag, commit or pool_wait."""
        return Merged([getattr(run, name) for run in self.runs])

    def to_json(self) -> dict[str, Any]:
        return {
            "conditions": self.trial.conditions(),
            "offered_per_s": round(self.trial.offered_per_s, 1),
            "values_per_s": round(self.values_per_s, 1),
            "missed": self.missed,
            "success": list(self.success),
            "failures": self.failures,
            "spooled_most": self.spooled_most,
            "scans_a_transaction": round(self.scans_a_transaction, 3),
            "wal_bytes": self.wal_bytes,
            "verification": self.verification,
            "doubts": self.doubts,
            "emulators": [_use_json(use) for use in self.emulators],
            "backends": [_use_json(use) for use in self.backends],
            "loggers": [_run_json(run) for run in self.runs],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrialResult:
        """Read one back; raises KeyError or TypeError for what `to_json` did not write."""
        trial = Trial(**data["conditions"])
        runs = [_run_of(run) for run in data["loggers"]]
        verification = data["verification"]
        emulators, backends = (
            [ProcessUse(use["private_bytes"], use["cpu_s"]) for use in data[name]]
            for name in ("emulators", "backends")
        )
        wal_bytes, violations = data["wal_bytes"], verification["violations"]
        return cls(trial, runs, wal_bytes, violations, verification, emulators, backends, data["doubts"])


@dataclass(frozen=True)
class Cell:
    """A trial and what came of it."""

    trial: Trial
    result: TrialResult | None
    error: str = ""
    """Why there is no result, in one line."""
    seconds: float = 0.0
    """What it took, with everything around it."""


_HISTOGRAMS = ("response", "service", "lag", "commit", "pool_wait")


def _run_json(run: LoggerRun) -> dict[str, Any]:
    data = asdict(run)
    for name in _HISTOGRAMS:
        data[name] = getattr(run, name).to_json()
    data["response_parts"] = [part.to_json() for part in run.response_parts]
    for name in ("seconds", "cpu_s", "window_s", "window_at"):
        data[name] = round(data[name], 4)
    return data


def _use_json(use: ProcessUse) -> dict[str, float]:
    return {"private_bytes": use.private_bytes, "cpu_s": round(use.cpu_s, 3)}


def _run_of(data: dict[str, Any]) -> LoggerRun:
    histograms = {name: _latencies_of_json(data[name]) for name in _HISTOGRAMS}
    parts = tuple(_latencies_of_json(part) for part in data["response_parts"])
    return LoggerRun(**{**data, **histograms, "response_parts": parts})


def _latencies_of_json(data: dict[str, Any]) -> Latencies:
    total_us = (data["mean_us"] or 0.0) * data["count"]
    return Latencies(data["hdr_v2"], data["count"], total_us, data["max_us"], data["clipped"])
