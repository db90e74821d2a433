"""Where a worker's scans come from: made beforehand from the signals, or read from an emulated PLC."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from logger.reading.judge import Judge
from logger.reading.plc import Lines
from logger.reading.reader import Reader
from logger.scan import Quality, Scan, ScanLayout, Text
from plcsim.config import DeviceConfig
from plcsim.event_loop import new_event_loop
from plcsim.signals.special import Text as TextSignal
from plcsim.truth import Truth

_PREPARED = 1024
"""PLC scans whose values are computed beforehand and stored in turn."""


class ScanSource(Protocol):
    """Gives one scan after the other."""

    def next(self, number: int) -> Scan:
        """The scan with this number of the stream."""


class PrecomputedScans:
    """Scans of the true values: what a perfect PLC and network would give, at no cost."""

    def __init__(self, config: DeviceConfig, prepared: int = _PREPARED) -> None:
        layout = ScanLayout(config)
        self._prepared = prepared
        logged = [p.is_logged and not p.poll for p in config.register_map.parameters]
        self._values = Truth(config).values_at(np.arange(1, prepared + 1, dtype=np.int64))[:, logged]
        self._process_number = layout.process_number(self._values[0], None)
        self._quality = np.full(self._values.shape, Quality.GOOD, dtype=np.int16)
        Judge(layout).judge(self._values, self._quality)
        signals = [p.signal for p in layout.parameters]
        texts = [signal.value if isinstance(signal, TextSignal) else "" for signal in signals]
        self._texts = tuple(Text(int(c), texts[c]) for c in np.flatnonzero(layout.is_text))
        self._size = layout.size

    def next(self, number: int) -> Scan:
        n = number % self._prepared
        recorded_at = np.full(self._size, time.time_ns() // 1000, dtype=np.int64)
        return Scan(
            number,
            self._values[n],
            self._quality[n],
            recorded_at,
            self._process_number,
            texts=self._texts,
        )


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
    plc = Lines().unit(host, port, config.modbus)
    await plc.connect()
    return Reader(plc, config)
