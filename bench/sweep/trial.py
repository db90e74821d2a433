"""One trial end to end: emulators and processes that store, measured and verified.

1. A schema with the devices in it, prepared as the arm wants it; an emulator process for each device.
2. The processes that store, started and waited for, so that none runs while another is being started.
3. The logging: a warm-up, the window that is measured, and the drain of what waits.
4. The oracle over everything that was stored; then nothing is left of all that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from typing import Any

from psycopg import Connection

from bench.arms.oracle import ArmOracle
from bench.arms.spec import ArmSpec, parse_arm
from bench.load.arms import bench_schema, spawn_worker, workers_alive
from bench.load.emulators import emulated
from bench.load.failures import Failure
from bench.load.machine import machine
from bench.measuring.resources import ProcessUse, machine_cpu, process_use, server_counters
from bench.oracle.invariants import Verification
from bench.sweep.backends import Backends, marked
from bench.sweep.cell import MADE, Trial
from bench.sweep.doubts import doubts_of
from bench.sweep.live import Listener, Live, listening
from bench.sweep.loads import LoadRequest, make_and_store
from bench.sweep.loggers import LogRequest, log_device, log_devices
from bench.sweep.measured import LoggerRun, TrialResult
from bench.sweep.spools import own_spool
from logger.database import connect
from logger.settings import Settings, at_address
from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError

__all__ = ["LoggerRun", "Trial", "TrialResult", "log_device", "run_trial"]

DRAIN_S = 10.0
"""Longest time that storing what waits may take after the logging; the rest is counted as not stored."""
_GRACE_S = 30.0
"""Longer than that a process that should have ended is hung."""
_LOOK_S = 0.5

OnLive = Callable[[Live], None]


def run_trial(
    trial: Trial, conninfo: str, monitor: Connection[Any], on_live: OnLive = lambda live: None
) -> TrialResult:
    """Run one trial in a schema of its own, which is gone afterwards, as are all its processes.

    `on_live` is told how it stands, about once a second. Raises PlcsimError and OSError.
    """
    configs = [
        machine(trial.parameters, f"bench-{n + 1}", trial.running, trial.plc_scan_ms)
        for n in range(trial.devices)
    ]
    with ExitStack() as stack:
        schema = stack.enter_context(bench_schema(monitor, conninfo, "sweep", configs))
        arm = parse_arm(trial.arm)
        with connect(conninfo, schema) as connection:
            arm.prepare_schema(connection, schema)
            oracle = ArmOracle(arm, connection, schema)
        emulators = _Emulators(stack, configs, trial)
        listener = stack.enter_context(listening())
        backends = Backends(monitor, schema)
        tasks = _tasks(trial, emulators.configs, marked(conninfo, schema), schema, listener.port, stack)
        workers = [stack.enter_context(spawn_worker()) for _ in tasks]
        stack.enter_context(workers_alive())
        pids = [started.result() for started in [worker.submit(_started) for worker in workers]]
        before, cpu_before = server_counters(monitor, schema), machine_cpu()
        emulators.begin()
        futures = [worker.submit(run, request) for worker, (run, request) in zip(workers, tasks, strict=True)]
        runs = _results(futures, pids, trial, listener, backends, on_live)
        uses, busy = emulators.use(), machine_cpu().busy_share(cpu_before)
        after = server_counters(monitor, schema)
        with connect(conninfo, schema) as connection:
            verification = _verified(arm, oracle, connection, runs)
        return TrialResult(
            trial=trial,
            runs=runs,
            wal_bytes=after.wal_bytes - before.wal_bytes,
            violations=verification.violations,
            verification=verification.to_json(),
            emulators=uses,
            backends=backends.uses(),
            doubts=doubts_of(trial, runs, busy, before, after),
        )


class _Emulators:
    """The emulators of a trial, if it reads from any, and what they used."""

    def __init__(self, stack: ExitStack, configs: list[DeviceConfig], trial: Trial) -> None:
        self.configs = configs
        self._pids: list[int] = []
        self._before: list[ProcessUse | None] = []
        if trial.source == MADE:
            return
        others = set(multiprocessing.active_children())
        rules = list(trial.fault_rules)
        faulty = [config.model_copy(update={"faults": rules}) if rules else config for config in configs]
        addresses = stack.enter_context(emulated(faulty))
        started = [child for child in multiprocessing.active_children() if child not in others]
        self._pids = sorted(child.pid for child in started if child.pid is not None)
        self.configs = [
            at_address(config, host, port) for config, (host, port) in zip(configs, addresses, strict=True)
        ]

    def begin(self) -> None:
        self._before = [process_use(pid) for pid in self._pids]

    def use(self) -> list[ProcessUse]:
        """CPU since `begin`, memory now."""
        return [
            ProcessUse(now.private_bytes, now.cpu_s - (before.cpu_s if before else 0.0))
            for before, pid in zip(self._before, self._pids, strict=True)
            if (now := process_use(pid)) is not None
        ]


def _tasks(
    trial: Trial, configs: list[DeviceConfig], conninfo: str, schema: str, port: int, stack: ExitStack
) -> list[tuple[Callable[..., LoggerRun], LogRequest | LoadRequest]]:
    """What each process is to do; the devices are dealt to the processes in turn."""
    tasks: list[tuple[Callable[..., LoggerRun], LogRequest | LoadRequest]] = []
    for n in range(trial.processes):
        mine = tuple(configs[n :: trial.processes])
        if trial.source == MADE:
            load = LoadRequest(
                conninfo,
                schema,
                trial.arm,
                mine,
                trial.interval_s,
                trial.scans,
                trial.connections,
                trial.warm_up_s,
                trial.window_s,
                DRAIN_S,
                n,
                port,
            )
            tasks.append((make_and_store, load))
            continue
        settings = Settings(
            mine,
            conninfo,
            stack.enter_context(own_spool()),
            trial.arm,
            trial.interval_s,
            schema,
            writers=trial.connections or None,
            drain_s=DRAIN_S,
        )
        tasks.append((log_devices, LogRequest(settings, trial.warm_up_s, trial.window_s, n, port)))
    return tasks


def _started() -> int:
    """Runs in a worker; when it returns, everything that a logger needs is imported."""
    return os.getpid()


def _results(
    futures: Sequence[Future[LoggerRun]],
    pids: list[int],
    trial: Trial,
    listener: Listener,
    backends: Backends,
    on_live: OnLive,
) -> list[LoggerRun]:
    """Wait for all processes, looking at them meanwhile; one that fails, or hangs, ends all."""
    until = time.monotonic() + trial.duration_s + DRAIN_S + _GRACE_S
    try:
        left = set(futures)
        while left:
            done, left = wait(left, timeout=_LOOK_S, return_when="FIRST_EXCEPTION")
            for future in done:
                future.result()  # raises what the process raised
            backends.look()
            on_live(listener.look())
            if left and time.monotonic() > until:
                _kill(pids)
                raise PlcsimError(f"a process had not ended {DRAIN_S + _GRACE_S:g} s after its time")
    except BaseException:
        _stop(pids)
        raise
    return [future.result() for future in futures]


def _verified(
    arm: ArmSpec, oracle: ArmOracle, connection: Connection[Any], runs: list[LoggerRun]
) -> Verification:
    """What the oracle says, and whether the processes stored what is there."""
    in_doubt = sum(run.failures.get(Failure.CONNECTION_LOST.value, 0) for run in runs)
    verification = oracle.verify(connection, sum(run.transactions for run in runs), in_doubt)
    if not arm.is_ours:
        return verification  # it knows what it can tell; our tables are empty
    stored, found = sum(run.stored_rows for run in runs), verification.rows
    left = sum(run.spooled_left for run in runs)
    # Of a drain that was cut short the last transaction may have been committed without an answer.
    if stored > found or (stored < found and not left):
        verification.checks["I5"].violated(
            f"the loggers say that they stored {stored} history rows, there are {found}"
        )
    return verification


def _stop(pids: list[int]) -> None:
    """A logger drains and ends on SIGTERM, however long it was to run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
