"""Wires the logger up: database, PLC, poller and forwarder; runs until told to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from logger.database import DEFAULT_SCHEMA, connect, mapped_errors, prepare_schema, register_device
from logger.errors import DatabaseError
from logger.forwarding.forwarder import Forwarder, Stored
from logger.reading.plc import PlcConnection
from logger.reading.poller import Poller, Reader
from logger.reading.read_plan import plan_reads
from logger.reading.schedule import Due, Schedule
from logger.repositories import REPOSITORIES, Repository
from logger.scan import Scan, ScanLayout
from plcsim.config import DeviceConfig
from plcsim.event_loop import new_event_loop

_KEPT = 1000
"""Newest figures that the status keeps."""


@dataclass(frozen=True)
class Settings:
    """What one logger does."""

    config: DeviceConfig
    conninfo: str
    repository: str = "synchronizing"
    host: str = ""
    port: int = 0
    interval_s: float = 1.0
    """0: as fast as it goes."""
    schema: str = DEFAULT_SCHEMA
    stream_id: int = 1
    duration_s: float | None = None
    """None: until SIGINT or SIGTERM."""


@dataclass
class Status:
    """How a running logger stands; written by the logger, read by whoever shows it."""

    device_id: str
    parameters: int
    requests: int
    started: float = field(default_factory=time.monotonic)
    scans: int = 0
    missed: int = 0
    stored_scans: int = 0
    stored_rows: int = 0
    transactions: int = 0
    read_errors: int = 0
    waiting: int = 0
    not_stored: int = 0
    reconnects: int = 0
    lags_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    """Start of a scan minus its due time."""
    commits_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    """Start of a transaction to its proven commit."""

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def rows_per_second(self) -> float:
        return self.stored_rows / max(self.seconds(), 1e-9)

    def commit_p99_ms(self) -> float:
        """Of the newest transactions; NaN before the first."""
        return _p99(self.commits_ms)

    def lag_p99_ms(self) -> float:
        """Of the newest scans; NaN before the first."""
        return _p99(self.lags_ms)


@dataclass(frozen=True)
class Hooks:
    """Who wants to know what; each is called in the thread where it happens."""

    on_status: Callable[[Status], None] = lambda status: None
    """Once a second, and at the end."""
    on_ready: Callable[[Status], None] = lambda status: None
    on_scan: Callable[[Due, Scan], None] = lambda due, scan: None
    on_stored: Callable[[Stored], None] = lambda stored: None


def run_logger(settings: Settings, hooks: Hooks = Hooks()) -> Status:
    """Log until told to stop. Raises PlcUnreachable at the start, DatabaseError at any time."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(settings, hooks))


async def _run(settings: Settings, hooks: Hooks) -> Status:
    config = settings.config
    layout, blocks = ScanLayout(config), plan_reads(config)
    status = Status(config.device.device_id, layout.size, len(blocks))
    plc = PlcConnection(
        settings.host or config.modbus.host,
        settings.port or config.modbus.port,
        config.modbus.unit_id,
        config.modbus.timeout_s,
    )
    await plc.connect()
    try:
        _prepare(settings)
        forwarder = Forwarder(lambda: _open(settings, layout), layout, _counted(status, hooks))
    except BaseException:
        plc.close()
        raise
    reader = Reader(plc, blocks, config)
    stop = asyncio.Event()
    _stop_on_signals(stop, settings.duration_s)
    forwarder.on_failure = _in_loop(stop.set)

    def on_scan(due: Due, scan: Scan) -> None:
        status.scans += 1
        status.lags_ms.append((scan.started_ns - due.due_ns) / 1e6)
        hooks.on_scan(due, scan)

    poller = Poller(
        reader,
        Schedule(settings.interval_s, forwarder.next_scan),
        layout,
        forwarder,
        forwarder.process_number,
        on_scan,
    )
    forwarder.start()
    hooks.on_ready(status)

    def report() -> None:
        status.missed, status.read_errors = poller.missed, reader.errors
        status.waiting, status.reconnects = forwarder.waiting, forwarder.reconnects
        hooks.on_status(status)

    ticker = asyncio.create_task(_every_second(report))
    try:
        await poller.run(stop)
    finally:
        ticker.cancel()
        plc.close()
        status.not_stored = await asyncio.to_thread(forwarder.close)
        report()
    if forwarder.failed is not None:
        raise _explained(forwarder.failed, status.not_stored)
    return status


def _prepare(settings: Settings) -> None:
    with connect(settings.conninfo, settings.schema) as connection:
        prepare_schema(connection, settings.schema)
        register_device(connection, settings.config)


def _open(settings: Settings, layout: ScanLayout) -> Repository:
    repository = REPOSITORIES[settings.repository]
    connection = connect(settings.conninfo, settings.schema)
    try:
        with mapped_errors():
            return repository(connection, layout.device_id, settings.stream_id, layout.recipe)
    except BaseException:
        connection.close()
        raise


def _counted(status: Status, hooks: Hooks) -> Callable[[Stored], None]:
    def on_stored(stored: Stored) -> None:
        status.stored_scans += len(stored.scans)
        status.stored_rows += len(stored.batch.value)
        status.transactions += 1
        status.commits_ms.append((stored.committed_ns - stored.started_ns) / 1e6)
        hooks.on_stored(stored)

    return on_stored


def _stop_on_signals(stop: asyncio.Event, duration_s: float | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if duration_s is not None:
        loop.call_later(duration_s, stop.set)


def _in_loop(callback: Callable[[], None]) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def call() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(callback)

    return call


async def _every_second(report: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1.0)
        report()


def _explained(failure: BaseException, not_stored: int) -> BaseException:
    lost = f"; {not_stored} scans or gaps were not stored" if not_stored else ""
    try:
        with mapped_errors():
            raise failure
    except DatabaseError as exc:
        return type(exc)(f"{exc}{lost}")
    except BaseException as exc:  # noqa: BLE001 - handed on to the caller
        return exc


def _p99(figures: deque[float]) -> float:
    return float(np.percentile(list(figures), 99)) if figures else float("nan")
