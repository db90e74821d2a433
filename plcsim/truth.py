"""The true values of a whole device at any PLC scan, as a client must read them.

`value_at` is what every check of stored data compares with. Set values that clients wrote enter as
a list of `Write`s, so that the truth stays recomputable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plcsim.codec import Codec, Values
from plcsim.config import DeviceConfig
from plcsim.parameters import Parameter, Table
from plcsim.process import Process, Scans
from plcsim.signals import Moment, noise_key


@dataclass(frozen=True, slots=True)
class Write:
    """A client changed a parameter: from the next PLC scan on everything follows the new value."""

    plc_scan: int
    """PLC scan during which the request was served; its image shows the old and then the new value."""
    parameter_id: int
    value: float


class Truth:
    """Computes true values; holds what depends only on the configuration."""

    def __init__(self, config: DeviceConfig) -> None:
        self._register_map = config.register_map
        self._parameters = self._register_map.parameters
        self._process = Process(config.process, config.device.plc_scan_s)
        self._plc_scan_ms = config.device.plc_scan_ms
        self._keys = [
            noise_key(config.device.seed, config.device.device_id, p.parameter_id) for p in self._parameters
        ]
        self._columns = {p.parameter_id: i for i, p in enumerate(self._parameters)}
        self._order = _set_values_first(self._parameters)
        self._codecs = [_TableCodec(self._parameters, table) for table in Table]
        self.cycle_scans = self._process.cycle_scans

    def values_at(self, plc_scans: Scans, writes: Sequence[Write] = ()) -> Values:
        """Values at PLC scans of shape (s,), as decoded from the registers: shape (s, parameters).

        `writes` are in the order in which they were made. Parameters without a signal are NaN: only a
        real PLC knows them.
        """
        values = np.full((len(plc_scans), len(self._parameters)), np.nan)
        state = self._process.state_at(plc_scans)
        none = np.full(len(plc_scans), np.nan)
        for column in self._order:
            parameter = self._parameters[column]
            if parameter.signal is None:
                continue
            of = parameter.setpoint
            moment = Moment(
                plc_scans,
                self._plc_scan_ms,
                state,
                self._process.step_names,
                self._keys[column],
                none if of is None else values[:, self._columns[of]],
            )
            values[:, column] = parameter.signal.at(moment)
            for write in writes:
                if write.parameter_id == parameter.parameter_id:
                    values[plc_scans > write.plc_scan, column] = write.value
        for codec in self._codecs:
            codec.round_trip(values)
        return values

    def value_at(self, parameter_id: int, plc_scan: int, writes: Sequence[Write] = ()) -> float:
        """One value; see `values_at`."""
        row = self.values_at(np.array([plc_scan], dtype=np.int64), writes)[0]
        return float(row[self._columns[parameter_id]])


class _TableCodec:
    """Passes values through the registers of one table: what rounding leaves of them."""

    def __init__(self, parameters: Sequence[Parameter], table: Table) -> None:
        mine = [(i, p) for i, p in enumerate(parameters) if p.table is table and p.signal]
        self._columns = [i for i, _ in mine]
        self._codec = Codec([p for _, p in mine], table, 0)
        self._size = max((p.end for _, p in mine), default=0) * (1 if table.is_bits else 2)

    def round_trip(self, values: Values) -> None:
        if not self._columns:
            return
        data = np.zeros((len(values), self._size), dtype=np.uint8)
        self._codec.encode(values[:, self._columns], data)
        values[:, self._columns] = self._codec.decode(data)


def _set_values_first(parameters: Sequence[Parameter]) -> list[int]:
    return sorted(range(len(parameters)), key=lambda i: parameters[i].setpoint is not None)
