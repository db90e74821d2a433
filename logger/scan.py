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
from plcsim.parameters import DataType

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]


_LEAST_TOO_LARGE = 2.0**63
"""A process number beyond it is none: a bigint of the database does not hold it."""


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


WORST_USABLE = 64
"""Uncertain or better: a value of this quality is one (OPC DA: the two highest bits are not 00)."""


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

    A column is a parameter that is logged in one poll group; what cannot be read has none.
    """

    def __init__(self, config: DeviceConfig, poll: str = "") -> None:
        parameters = config.register_map.logged_in(poll)
        column_of = {p.parameter_id: i for i, p in enumerate(parameters)}
        setpoints = [None if p.setpoint is None else column_of.get(p.setpoint) for p in parameters]
        self.device_id = config.device.device_id
        self.poll = poll
        self.parameters = parameters
        self.size = len(parameters)
        self.parameter_ids = np.array([p.parameter_id for p in parameters], dtype=np.int32)
        """Ascending: rows of a scan are in this order everywhere."""
        self.is_text = np.array([p.data_type is DataType.STRING for p in parameters], dtype=np.bool_)
        """Columns of strings: their value is NaN, what they say is in `Scan.texts`."""
        self._has_setpoint = np.array([column is not None for column in setpoints])
        self._setpoint = np.array([column or 0 for column in setpoints])
        names = [p.full_name for p in parameters]
        process = config.process
        self.recipe = process.recipe if process else ""
        shows = process is not None and process.running in names
        self._running = names.index(process.running) if process and shows else None
        self._number = names.index(process.number) if process and shows else None

    def parameter_ids_of(self, scans: int) -> NDArray[np.int32]:
        """The parameter ids of the rows of so many scans."""
        return self.parameter_ids if scans == 1 else np.tile(self.parameter_ids, scans)

    def set_values(self, values: Floats) -> Floats:
        """The set value beside each value, NaN where none can be read; shape as `values`."""
        return np.where(self._has_setpoint, values[..., self._setpoint], np.nan)

    @property
    def shows_process(self) -> bool:
        """Whether scans show which process runs; in another poll group they do not."""
        return self._running is not None

    def process_number(self, values: Floats, before: int | None) -> int | None:
        """The PLC's number of the process that one scan shows running, None while idle.

        A scan that could not read it leaves it as it was before.
        """
        if self._running is None or self._number is None:
            return None
        running, number = values[self._running], values[self._number]
        if np.isnan(running) or not abs(number) < _LEAST_TOO_LARGE:  # not read, or nonsense
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
    """The newest usable value; NaN: none in this batch, or a text."""
    scan: Longs
    """The scan of that value; 0: none in this batch."""
    updated_at: Longs
    set_value: Floats
    quality: NDArray[np.int16]
    """Of the last attempt, good or bad."""
    attempt_scan: Longs
    attempt_at: Longs
    texts: tuple[tuple[int, str], ...] = ()
    """(place, text) of those whose newest usable value has one."""


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
    """Whether every value of the last scan is GOOD and there."""
    texts: tuple[tuple[int, str], ...] = ()
    """(row, text) of the values that a double cannot hold, by row."""

    @property
    def scan(self) -> Longs:
        """Number of the scan that each row belongs to."""
        numbers = np.arange(self.first_scan, self.last_scan + 1, dtype=np.int64)
        return np.repeat(numbers, self.parameters)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which rows say what a parameter's value is: not bad, and there as a number or a text."""
        there: NDArray[np.bool_] = ~np.isnan(self.value)
        for row, _ in self.texts:
            there[row] = True
        return there & (self.quality >= WORST_USABLE)

    def newest_usable(self) -> CurrentValues:
        """The newest usable value of each parameter, and its last attempt."""
        shape = (-1, self.parameters)
        value, quality = self.value.reshape(shape), self.quality.reshape(shape)
        recorded_at = self.recorded_at.reshape(shape)
        usable = self.usable.reshape(shape)
        newest = len(usable) - 1 - np.argmax(usable[::-1], axis=0)
        some: NDArray[np.bool_] = np.logical_or.reduce(usable, axis=0)
        column = np.arange(self.parameters)
        text_of = dict(self.texts)
        rows = [
            (place, int(age) * self.parameters + place)
            for place, age in enumerate(newest if text_of else ())
            if some[place]
        ]
        return CurrentValues(
            value=np.where(some, value[newest, column], np.nan),
            scan=np.where(some, self.first_scan + newest, 0),
            updated_at=recorded_at[newest, column],
            set_value=self.set_value.reshape(shape)[-1],
            quality=quality[-1],
            attempt_scan=np.full(self.parameters, self.last_scan, dtype=np.int64),
            attempt_at=recorded_at[-1],
            texts=tuple((place, text_of[row]) for place, row in rows if row in text_of),
        )


def batch_of(scans: Sequence[Scan], layout: ScanLayout, offset: int = 0) -> Batch:
    """Combine contiguous scans, oldest first, into one batch with a transaction id of its own.

    `offset` is what the database's numbers are ahead of the logger's own.
    """
    values = np.concatenate([scan.values for scan in scans])
    quality = np.concatenate([scan.quality for scan in scans])
    bad = quality != Quality.GOOD
    texts = tuple((i * layout.size + t.column, t.text) for i, scan in enumerate(scans) for t in scan.texts)
    return Batch(
        transaction_id=uuid4(),
        device_id=layout.device_id,
        first_scan=scans[0].number + offset,
        last_scan=scans[-1].number + offset,
        process_number=scans[0].process_number,
        parameters=layout.size,
        parameter_id=layout.parameter_ids_of(len(scans)),
        recorded_at=np.concatenate([scan.recorded_at for scan in scans]),
        value=values,
        set_value=layout.set_values(values.reshape(len(scans), layout.size)).ravel(),
        quality=quality,
        has_bad=bool(bad.any()),
        last_scan_is_good=not bad[-layout.size :].any() and _all_there(scans[-1]),
        texts=texts,
    )


def _all_there(scan: Scan) -> bool:
    """Whether a scan has every value, as a number or as a text."""
    missing = np.isnan(scan.values)
    return not missing.any() or set(np.flatnonzero(missing)) <= {text.column for text in scan.texts}
