"""One scan of a device as arrays, and the batch of scans that goes into one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from plcsim.config import DeviceConfig

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]


class Quality(IntEnum):
    """Trust in a value: OPC DA quality codes (OPC UA Part 8, annex A.3)."""

    BAD_CONFIGURATION_ERROR = 4
    BAD_NOT_CONNECTED = 8
    BAD_DEVICE_FAILURE = 12
    BAD_SENSOR_FAILURE = 16
    BAD_COMMUNICATION = 24
    BAD_WAITING_FOR_INITIAL_DATA = 32
    UNCERTAIN_LAST_USABLE = 68
    UNCERTAIN_LIMITS_EXCEEDED = 84
    GOOD = 192


class StreamKey(NamedTuple):
    """Names a stream: one logger's numbering of one device's scans."""

    device_id: str
    stream_id: int = 1


class Text(NamedTuple):
    """A value that a double cannot hold: a string, or a 64-bit integer beyond 2^53."""

    column: int
    """Of the ScanLayout."""
    text: str


class ScanLayout:
    """What all scans of a device have in common: which value stands in which column.

    A column is a parameter that is logged; strings and what cannot be read have none.
    """

    def __init__(self, config: DeviceConfig) -> None:
        parameters = config.register_map.logged
        column_of = {p.parameter_id: i for i, p in enumerate(parameters)}
        setpoints = [None if p.setpoint is None else column_of.get(p.setpoint) for p in parameters]
        self.device_id = config.device.device_id
        self.size = len(parameters)
        self.parameter_ids = np.array([p.parameter_id for p in parameters], dtype=np.int32)
        """Ascending: rows of a scan are in this order everywhere."""
        self._has_setpoint = np.array([column is not None for column in setpoints])
        self._setpoint = np.array([column or 0 for column in setpoints])
        names = [p.full_name for p in parameters]
        process = config.process
        self.recipe = process.recipe if process else ""
        self._running = names.index(process.running) if process else None
        self._number = names.index(process.number) if process else None

    def parameter_ids_of(self, scans: int) -> NDArray[np.int32]:
        """The parameter ids of the rows of so many scans."""
        return self.parameter_ids if scans == 1 else np.tile(self.parameter_ids, scans)

    def set_values(self, values: Floats) -> Floats:
        """The set value beside each value, NaN where none can be read; shape as `values`."""
        return np.where(self._has_setpoint, values[..., self._setpoint], np.nan)

    def process_number(self, values: Floats, before: int | None) -> int | None:
        """The PLC's number of the process that one scan shows running, None while idle.

        A scan that could not read it leaves it as it was before.
        """
        if self._running is None or self._number is None:
            return None
        running, number = values[self._running], values[self._number]
        if np.isnan(running) or np.isnan(number):
            return before
        return int(number) if running else None


@dataclass(frozen=True, slots=True)
class Scan:
    """One pass over all blocks of a device; arrays are in the order of its ScanLayout."""

    number: int
    """Of this stream's scans as the logger counts them, from 1."""
    values: Floats
    """NaN where not read."""
    quality: NDArray[np.int16]
    recorded_at: Longs
    """When the reply with the value arrived: microseconds since 1970, UTC."""
    process_number: int | None = None
    due_ns: int = 0
    """Intended start, monotonic clock."""
    started_ns: int = 0
    texts: tuple[Text, ...] = ()
    """By column; most scans have none."""

    def timed(self, due_ns: int, process_number: int | None) -> Scan:
        """The same scan with what the poller knows of it."""
        return replace(self, due_ns=due_ns, process_number=process_number)


@dataclass(frozen=True, slots=True)
class Gap:
    """Scans that were due and are not stored."""

    first_scan: int
    last_scan: int
    reason: str
    first_at: int = 0
    """When the first of them was due, wall clock: microseconds since 1970, UTC; 0: nobody knows."""
    last_at: int = 0


Item = Scan | Gap
"""What comes next in a stream."""


@dataclass(frozen=True, slots=True)
class CurrentValues:
    """What a batch says about how each parameter stands now; arrays of shape (parameters,)."""

    value: Floats
    """The newest good value; NaN: none in this batch."""
    scan: Longs
    """The scan of that value; 0: none in this batch."""
    updated_at: Longs
    set_value: Floats
    quality: NDArray[np.int16]
    """Of the last attempt, good or bad."""
    attempt_scan: Longs
    attempt_at: Longs


@dataclass(frozen=True, slots=True)
class Batch:
    """Contiguous scans, all in one process or none: one transaction.

    The arrays of shape (scans · parameters,) are ordered by scan, then parameter_id.
    """

    transaction_id: UUID
    device_id: str
    first_scan: int
    last_scan: int
    process_number: int | None
    parameters: int
    """Of each scan."""
    parameter_id: NDArray[np.int32]
    recorded_at: Longs
    value: Floats
    set_value: Floats
    quality: NDArray[np.int16]
    has_bad: bool
    """Whether any value has another quality than GOOD."""
    last_scan_is_good: bool
    """Whether every value of the last scan is GOOD."""

    @property
    def scan(self) -> Longs:
        """Number of the scan that each row belongs to."""
        numbers = np.arange(self.first_scan, self.last_scan + 1, dtype=np.int64)
        return np.repeat(numbers, self.parameters)

    def newest_good(self) -> CurrentValues:
        """The newest good value of each parameter, and its last attempt."""
        shape = (-1, self.parameters)
        value, quality = self.value.reshape(shape), self.quality.reshape(shape)
        recorded_at = self.recorded_at.reshape(shape)
        good = quality >= Quality.GOOD
        newest = len(good) - 1 - np.argmax(good[::-1], axis=0)
        column, some = np.arange(self.parameters), good.any(axis=0)
        return CurrentValues(
            value=np.where(some, value[newest, column], np.nan),
            scan=np.where(some, self.first_scan + newest, 0),
            updated_at=recorded_at[newest, column],
            set_value=self.set_value.reshape(shape)[-1],
            quality=quality[-1],
            attempt_scan=np.full(self.parameters, self.last_scan, dtype=np.int64),
            attempt_at=recorded_at[-1],
        )


def batch_of(scans: Sequence[Scan], layout: ScanLayout) -> Batch:
    """Combine contiguous scans, oldest first, into one batch with a transaction id of its own."""
    values = np.concatenate([scan.values for scan in scans])
    quality = np.concatenate([scan.quality for scan in scans])
    bad = quality != Quality.GOOD
    return Batch(
        transaction_id=uuid4(),
        device_id=layout.device_id,
        first_scan=scans[0].number,
        last_scan=scans[-1].number,
        process_number=scans[0].process_number,
        parameters=layout.size,
        parameter_id=layout.parameter_ids_of(len(scans)),
        recorded_at=np.concatenate([scan.recorded_at for scan in scans]),
        value=values,
        set_value=layout.set_values(values.reshape(len(scans), layout.size)).ravel(),
        quality=quality,
        has_bad=bool(bad.any()),
        last_scan_is_good=not bad[-layout.size :].any(),
    )
