"""Where a worker's scans come from: made beforehand from the signals, or read from an emulated PLC."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from logger.reading.plc import PlcConnection
from logger.reading.poller import Reader
from logger.reading.read_plan import plan_reads
from logger.scan import Quality, Scan, ScanLayout
from plcsim.config import DeviceConfig
from plcsim.event_loop import new_event_loop
from plcsim.truth import Truth

_PREPARED = 1024
"""PLC scans whose values are computed beforehand and stored in turn."""


class ScanSource(Protocol):
    """Gives one scan after the other."""

    def next(self, number: int) -> Scan:
        """The scan with this number of the stream."""


class PrecomputedScans:
    """Scans of the true values: what a perfect PLC and network would give, at no cost."""

    def __init__(self, config: DeviceConfig) -> None:
        layout = ScanLayout(config)
        logged = [p.is_logged for p in config.register_map.parameters]
        self._values = Truth(config).values_at(np.arange(1, _PREPARED + 1, dtype=np.int64))[:, logged]
        self._process_number = layout.process_number(self._values[0], None)
        self._quality = np.full(layout.size, Quality.GOOD, dtype=np.int16)
        self._size = layout.size

    def next(self, number: int) -> Scan:
        values = self._values[number % _PREPARED]
        recorded_at = np.full(self._size, time.time_ns() // 1000, dtype=np.int64)
        return Scan(number, values, self._quality, recorded_at, self._process_number)


class PlcScans:
    """Scans read over Modbus TCP, one when asked for one."""

    def __init__(self, config: DeviceConfig, host: str, port: int) -> None:
        self._layout = ScanLayout(config)
        self._loop = new_event_loop()
        self._reader = self._loop.run_until_complete(_reader(config, host, port))
        self._process_number: int | None = None

    def next(self, number: int) -> Scan:
        scan = self._loop.run_until_complete(self._reader.read(number))
        self._process_number = self._layout.process_number(scan.values, self._process_number)
        return scan.timed(0, self._process_number)


async def _reader(config: DeviceConfig, host: str, port: int) -> Reader:
    """Made inside the event loop: the Modbus client belongs to the loop that runs then."""
    modbus = config.modbus
    plc = PlcConnection(host, port, modbus.unit_id, modbus.timeout_s)
    await plc.connect()
    return Reader(plc, plan_reads(config), config)
