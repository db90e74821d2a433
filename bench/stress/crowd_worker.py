"""What runs in each process of a crowd: its share of the writers, a thread each.

Plain functions with picklable arguments. Connections, prepared statements and scans stay between calls.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.arms.spec import parse_arm
from bench.load.failures import DATABASE_ERRORS, failure_of
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from bench.stress.connectors import OwnConnection, SharedPool
from bench.stress.writer import ATTEMPT, Connector, Schedule, Writer, wait_until
from logger.scan import ScanLayout, StreamKey
from plcsim.config import DeviceConfig

_PREPARED = 64
"""Scans whose values are computed beforehand, of each machine: there are many."""


@dataclass(frozen=True)
class CrowdSettings:
    """What a process of the crowd works with."""

    conninfo: str
    schema: str
    arm: str
    parameters: int
    shared: bool
    """All writers write one machine's parameters, as streams 1, 2, …; else each has a machine of its own."""
    pool: int | None = None
    """Connections of the pool that the process's writers share; None: a connection each."""
    pool_timeout_s: float = 5.0
    share: int = 0
    """This process has the writers share, share + of, share + 2·of, …"""
    of: int = 1


@dataclass(frozen=True)
class Tried:
    """What the writers of a process did."""

    attempts: NDArray[np.void]
    """Of dtype `ATTEMPT`."""
    cpu_s: float
    seconds: float
    """For which `cpu_s` counts."""
    reasons: dict[str, int]
    """Failed attempts by SQLSTATE, since the process began."""
    leaked: tuple[int, int, int] = (0, 0, 0)
    """How many connections were leaked, and when on the monotonic clock the first was taken and the last
    given back; zeros if none."""


def crowd_machine(index: int, parameters: int, shared: bool) -> DeviceConfig:
    """The machine whose scans writer `index` stores."""
    return machine(parameters, f"crowd-{parameters}-{0 if shared else index}")


class _CrowdWorker:
    def __init__(self, settings: CrowdSettings) -> None:
        self.settings = settings
        self._arm = parse_arm(settings.arm)
        self.writers: dict[int, Writer] = {}
        self._stored_before = 0
        """By writers that are gone."""
        self._machines: dict[int, tuple[ScanLayout, PrecomputedScans]] = {}
        self.pool: SharedPool | None = None
        size = settings.pool or self._arm.settings.pool
        if size:
            self.pool = SharedPool(
                settings.conninfo,
                settings.schema,
                self._arm,
                settings.shared,
                size,
                settings.pool_timeout_s,
            )

    def resize(self, writers: int, connected: bool, parameters: int) -> dict[str, int]:
        """Have our share of so many writers; returns the failures of those that could not connect."""
        if parameters != self.settings.parameters:
            self._forget(self.writers)
            self._machines = {}
            self.settings = replace(self.settings, parameters=parameters)
        s = self.settings
        wanted = range(s.share, writers, s.of)
        self._forget(set(self.writers) - set(wanted))
        failures: Counter[str] = Counter()
        for index in wanted:
            if index not in self.writers:
                self.writers[index] = self._writer(index)
            if connected:
                try:
                    self.writers[index].open()
                except DATABASE_ERRORS as exc:
                    failures[failure_of(exc)] += 1
        return dict(failures)

    def _forget(self, indices: Iterable[int]) -> None:
        for index in list(indices):
            writer = self.writers.pop(index)
            writer.settle()
            self._stored_before += writer.stored
            writer.close()

    def _writer(self, index: int) -> Writer:
        s = self.settings
        at = 0 if s.shared else index
        if at not in self._machines:
            config = crowd_machine(index, s.parameters, s.shared)
            self._machines[at] = ScanLayout(config), PrecomputedScans(config, _PREPARED)
        layout, scans = self._machines[at]
        connector: Connector = self.pool or OwnConnection(s.conninfo, s.schema, self._arm, s.shared)
        key = StreamKey(layout.device_id, index + 1 if s.shared else 1)
        return Writer(index, key, scans, layout, connector)

    def run(self, schedule: Schedule) -> Tried:
        mine = [w for w in self.writers.values() if w.index < (schedule.active or w.index + 1)]
        active = schedule.active or len(self.writers) * self.settings.of
        tried: list[list[tuple[int, ...]]] = [[] for _ in mine]
        mistakes: list[BaseException] = []

        def run(slot: int, writer: Writer) -> None:
            try:
                tried[slot] += writer.run(schedule, active)
            except BaseException as exc:  # noqa: BLE001 - a thread has nobody to raise to: the caller does
                mistakes.append(exc)

        cpu, begun = time.process_time(), time.monotonic()
        threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(mine)]
        for thread in threads:
            thread.start()
        leaked = self._leak(schedule) if schedule.leak and self.pool else (0, 0, 0)
        for thread in threads:
            thread.join()
        if mistakes:
            raise mistakes[0]
        rows = [row for each in tried for row in each]
        reasons: Counter[str] = Counter()
        for writer in self.writers.values():
            reasons.update(writer.reasons)
        return Tried(
            np.array(rows, dtype=ATTEMPT),
            time.process_time() - cpu,
            time.monotonic() - begun,
            dict(reasons),
            leaked,
        )

    def _leak(self, schedule: Schedule) -> tuple[int, int, int]:
        assert self.pool is not None
        assert schedule.leak is not None
        taken_ns, given_ns = (schedule.start_ns + round(1e9 * at) for at in schedule.leak)
        taken_ns = wait_until(taken_ns)
        leaked = self.pool.leak(until_ns=given_ns)
        wait_until(given_ns)
        self.pool.give_back()
        return leaked, taken_ns, time.monotonic_ns()

    def settle(self) -> int:
        """Scans that are known to be stored, once what was in doubt is asked."""
        for writer in self.writers.values():
            writer.settle()
        return self._stored_before + sum(writer.stored for writer in self.writers.values())

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()
        if self.pool:
            self.pool.close()


_worker: _CrowdWorker | None = None


def _ours() -> _CrowdWorker:
    assert _worker is not None
    return _worker


def prepare(settings: CrowdSettings) -> int:
    """Get ready; returns the process id."""
    global _worker
    _worker = _CrowdWorker(settings)
    return os.getpid()


def resize(writers: int, connected: bool, parameters: int) -> dict[str, int]:
    """Have our share of so many writers in all, connected or not, each of so many parameters."""
    return _ours().resize(writers, connected, parameters)


def run(schedule: Schedule) -> Tried:
    """Let our writers follow the schedule."""
    return _ours().run(schedule)


def settle() -> int:
    """Scans that our writers are known to have stored, asking the database what was in doubt."""
    return _ours().settle() if _worker is not None else 0


def close() -> None:
    """Close every connection."""
    global _worker
    if _worker is not None:
        _worker.close()
        _worker = None
