"""Compares stored scans with the truth of the PLC, many at a time: computing the truth is vectorised.

A value is right if it equals the truth at the PLC scan that was read together with it: the group's
scan counter stands in the same reply. Where clients wrote set values, the PLC scan of the write
served the old value first and then the new one; either is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.oracle.stored_rows import Rows
from logger.scan import Floats, Quality, ScanLayout
from plcsim.config import DeviceConfig
from plcsim.parameters import DataType
from plcsim.signals import PlcScan
from plcsim.truth import Truth, Write

_PLC_SCANS = 2**32
"""PLC scan counters are below."""


class ValueCheck:
    """Takes the scans of one stream and says which values are not true."""

    _FULL = 200_000
    """Values that are taken before they are checked."""

    def __init__(self, config: DeviceConfig, layout: ScanLayout, writes: Sequence[Write]) -> None:
        parameters = layout.parameters
        self._names = [p.full_name for p in parameters]
        self._layout = layout
        self._truth = Truth(config)
        self._column_of = {p.parameter_id: i for i, p in enumerate(parameters)}
        place = {p.parameter_id: i for i, p in enumerate(config.register_map.parameters)}
        self._place = np.array([place[p.parameter_id] for p in parameters], dtype=np.intp)
        """Where the parameters of this stream stand among all, which is what the truth gives."""
        self._writes = [write for write in writes if write.parameter_id in place]
        counters = {p.group: i for i, p in enumerate(parameters) if isinstance(p.signal, PlcScan)}
        columns = [
            i
            for i, p in enumerate(parameters)
            if p.signal is not None and p.data_type is not DataType.STRING and p.group in counters
        ]
        self._columns = np.array(columns, dtype=np.intp)
        self._counter_of = np.array([counters[parameters[i].group] for i in columns], dtype=np.intp)
        limits = [parameters[i].limits or (-np.inf, np.inf) for i in columns]
        self._low, self._high = np.array(limits, dtype=np.float64).reshape(-1, 2).T
        self._scans: list[Rows] = []
        self._taken = 0
        self.applicable = bool(columns)

    @property
    def is_full(self) -> bool:
        return self._taken >= self._FULL

    def add(self, rows: Rows) -> None:
        """Take scans: rows of shape (scans, parameters)."""
        if self.applicable and len(rows):
            self._scans.append(rows)
            self._taken += rows.size

    def flush(self) -> tuple[int, list[tuple[int, str]]]:
        """Check what was taken: values checked, and per wrong parameter a count and an example."""
        if not self._scans:
            return 0, []
        rows = np.concatenate(self._scans)
        self._scans, self._taken = [], 0
        values = np.ascontiguousarray(rows["value"])
        stored = values[:, self._columns]
        wrong = ~self._right(values, stored)
        wrong |= ~self._has_its_quality(stored, rows["quality"][:, self._columns])
        set_values = np.ascontiguousarray(rows["set_value"])
        wrong |= ~_equal(set_values, self._layout.set_values(values))[:, self._columns]
        wrong |= ~_digits_agree(rows[:, self._columns])
        return stored.size, self._examples(wrong, rows)

    def _right(self, values: Floats, stored: Floats) -> NDArray[np.bool_]:
        """Whether each value is the truth of the PLC scan that its group's counter shows.

        A value that was not read is right: its quality says so. A group without its counter tells
        nothing about when it was read, so none of its values is right.
        """
        counters = values[:, self._counter_of]
        known = _is_plc_scan(counters)
        plc_scans, place = np.unique(np.where(known, counters, 0.0), return_inverse=True)
        place = place.reshape(counters.shape)
        right = _equal(stored, self._true(plc_scans.astype(np.int64))[place, self._columns])
        for write in self._writes:
            # the PLC scan of a write may have served what it wrote, too
            column = self._column_of.get(write.parameter_id)
            if column is None:
                continue
            served = self._truth.written_value(write)
            right |= (self._columns == column) & (counters == write.plc_scan) & (stored == served)
        return np.asarray((right & known) | np.isnan(stored))

    def _has_its_quality(self, stored: Floats, quality: NDArray[np.int16]) -> NDArray[np.bool_]:
        """A value is good, or outside its limits and says so; no value is neither."""
        outside = (stored < self._low) | (stored > self._high)
        expected = np.where(outside, Quality.UNCERTAIN_LIMITS_EXCEEDED, Quality.GOOD)
        claims = (quality == Quality.GOOD) | (quality == Quality.UNCERTAIN_LIMITS_EXCEEDED)
        return np.asarray(np.where(np.isnan(stored), ~claims, quality == expected))

    def _true(self, plc_scans: NDArray[np.int64]) -> Floats:
        """True values of this stream's parameters: shape (scans, parameters)."""
        return self._truth.values_at(plc_scans, self._writes)[:, self._place]

    def _examples(self, wrong: NDArray[np.bool_], rows: Rows) -> list[tuple[int, str]]:
        examples = []
        for k in np.flatnonzero(wrong.any(axis=0)):
            scan = int(np.flatnonzero(wrong[:, k])[0])
            column = self._columns[k]
            row = rows[scan, column]
            stored = f"{row['value']} (set value {row['set_value']}, quality {row['quality']})"
            plc_scan = rows[scan, self._counter_of[k]]["value"]
            true = self._true(np.array([int(plc_scan)]))[0, column] if _is_plc_scan(plc_scan) else "unknown"
            examples.append(
                (
                    int(wrong[:, k].sum()),
                    f"{self._names[column]} in scan {row['scan']}: stored {stored}, truth {true} at PLC scan "
                    f"{plc_scan:.15g}",
                )
            )
        return examples


def _digits_agree(rows: Rows) -> NDArray[np.bool_]:
    """Whether the text beside a number is the integer that was rounded to it."""
    agree = np.ones(rows.shape, dtype=bool)
    for scan, column in np.argwhere(rows["text_bytes"] >= 0):
        row = rows[scan, column]
        try:
            agree[scan, column] = float(int(row["text"])) == row["value"]
        except (ValueError, OverflowError):
            agree[scan, column] = False
    return agree


def _equal(a: Floats, b: Floats) -> NDArray[np.bool_]:
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


def _is_plc_scan(counters: Any) -> Any:
    """Which of these a PLC scan counter can show."""
    return (counters >= 0) & (counters < _PLC_SCANS) & (counters == np.floor(counters))
