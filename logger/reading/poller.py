"""Due -> read -> Scan: polls one device at its interval, whatever the PLC does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from logger.errors import BadReply, ExceptionReply, PlcError, PlcUnreachable
from logger.reading.plc import PlcConnection
from logger.reading.read_plan import ReadBlock
from logger.reading.schedule import Due, Schedule
from logger.scan import Gap, Quality, Scan, ScanLayout
from plcsim.codec import Codec
from plcsim.config import DeviceConfig
from plcsim.limits import ExceptionCode

log = logging.getLogger(__name__)

_QUALITY_OF_EXCEPTION: dict[int, Quality] = {
    ExceptionCode.ILLEGAL_FUNCTION: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.ILLEGAL_DATA_ADDRESS: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.ILLEGAL_DATA_VALUE: Quality.BAD_CONFIGURATION_ERROR,
    ExceptionCode.DEVICE_FAILURE: Quality.BAD_DEVICE_FAILURE,
    ExceptionCode.ACKNOWLEDGE: Quality.UNCERTAIN_LAST_USABLE,
    ExceptionCode.DEVICE_BUSY: Quality.UNCERTAIN_LAST_USABLE,
    8: Quality.BAD_DEVICE_FAILURE,  # memory parity error
}

_LAST_S = 0.002
_MOST_COMPLAINTS = 20
"""Different errors that are logged before the PLC is well again; garbage would never end."""


class Sink(Protocol):
    """Takes scans and gaps in order."""

    async def wait_for_room(self, stop: asyncio.Event) -> None:
        """Return when `put` will take another scan, or when `stop` is set."""

    def put(self, item: Scan | Gap) -> None:
        """Take what comes next in the stream."""


class Reader:
    """Reads one scan: all blocks in turn, each value with its quality and the time of its reply."""

    def __init__(self, plc: PlcConnection, blocks: Sequence[ReadBlock], config: DeviceConfig) -> None:
        index_of = {p.parameter_id: i for i, p in enumerate(config.register_map.logged)}
        self._plc = plc
        self._size = len(index_of)
        self._blocks = [
            (
                block,
                Codec(block.parameters, block.table, block.address),
                np.array([index_of[p.parameter_id] for p in block.parameters]),
            )
            for block in blocks
        ]
        self.errors = 0
        """Blocks that could not be read."""
        self._complaints: set[str] = set()
        """What has been logged since the last scan without an error."""

    async def read(self, number: int) -> Scan:
        """One scan; what cannot be read is NaN with a quality that says why."""
        values = np.full(self._size, np.nan)
        quality = np.full(self._size, Quality.GOOD, dtype=np.int16)
        recorded_at = np.empty(self._size, dtype=np.int64)
        started_ns = time.monotonic_ns()
        errors_before, unreachable = self.errors, None
        for block, codec, columns in self._blocks:
            try:
                if unreachable:  # one timeout a scan is enough
                    raise unreachable
                data = await self._plc.read(block)
                values[columns] = codec.decode(data)
            except PlcError as exc:
                unreachable = exc if isinstance(exc, PlcUnreachable) else None
                self._count(exc)
                quality[columns] = _quality_of(exc)
            recorded_at[columns] = time.time_ns() // 1000
        not_a_number = ~np.isfinite(values)
        if not_a_number.any():
            values[not_a_number] = np.nan
            quality[not_a_number & (quality == Quality.GOOD)] = Quality.BAD_SENSOR_FAILURE
        if self._complaints and self.errors == errors_before:
            self._complaints.clear()
            log.warning("the PLC answers everything again")
        return Scan(number, values, quality, recorded_at, started_ns=started_ns)

    def _count(self, exc: PlcError) -> None:
        self.errors += 1
        if str(exc) not in self._complaints and len(self._complaints) < _MOST_COMPLAINTS:
            self._complaints.add(str(exc))
            log.warning("%s", exc)


def _quality_of(exc: PlcError) -> Quality:
    if isinstance(exc, ExceptionReply):
        return _QUALITY_OF_EXCEPTION.get(exc.code, Quality.BAD_COMMUNICATION)
    if isinstance(exc, BadReply):
        return Quality.BAD_COMMUNICATION
    return Quality.BAD_NOT_CONNECTED if "reached" in str(exc) else Quality.BAD_COMMUNICATION


class Poller:
    """Reads a device's scans when they are due and hands them on."""

    def __init__(
        self,
        reader: Reader,
        schedule: Schedule,
        layout: ScanLayout,
        sink: Sink,
        process_number: int | None = None,
        on_scan: Callable[[Due, Scan], None] = lambda due, scan: None,
    ) -> None:
        self._reader = reader
        self._schedule = schedule
        self._layout = layout
        self._sink = sink
        self._process_number = process_number
        self._on_scan = on_scan
        self.scans = 0
        self.missed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until `stop` is set; the scan in hand is finished."""
        while not stop.is_set():
            await self._sink.wait_for_room(stop)
            if stop.is_set():
                return
            due = self._schedule.next_due()
            if not await _wait_until(due.due_ns, stop):
                return
            if due.missed:
                self.missed += due.missed
                gap = Gap(due.number - due.missed, due.number - 1, "missed: the scan before took too long")
                self._sink.put(gap)
            scan = await self._reader.read(due.number)
            self._process_number = self._layout.process_number(scan.values, self._process_number)
            scan = scan.timed(due.due_ns, self._process_number)
            self.scans += 1
            self._on_scan(due, scan)
            self._sink.put(scan)


async def _wait_until(due_ns: int, stop: asyncio.Event) -> bool:
    """Wait for a time on the monotonic clock; False if told to stop before.

    Timers of the event loop are a millisecond early or late, so the last two are slept through.
    """
    while (delay := (due_ns - time.monotonic_ns()) / 1e9) > 0:
        if delay <= _LAST_S:
            time.sleep(delay)  # noqa: ASYNC251 - nothing else is due in this loop meanwhile
            continue
        try:
            await asyncio.wait_for(stop.wait(), delay - _LAST_S)
        except TimeoutError:
            continue
        return False
    return True
