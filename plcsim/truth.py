"""The true values of a whole device at any PLC scan, as a client must read them.

`value_at` is what every check of stored data compares with. Set values that clients wrote enter as
a list of `Write`s, so that the truth stays recomputable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plcsim.codec import Values
from plcsim.config import DeviceConfig
from plcsim.history import History
from plcsim.layout import Layout
from plcsim.parameters import Parameter
from plcsim.process import Scans
from plcsim.signals import Lag, Moment, Signal, noise_key, uniform
from plcsim.truth_plan import TruthPlan
from plcsim.writes import Write

__all__ = ["Truth", "Write"]

_FEW = 1024
"""Of so many PLC scans the noise of all parameters fits in memory at once."""

_LAST_PLACES = 8
"""By so many units in the last place a value can differ from itself, decoded, encoded and decoded again."""


class Truth:
    """Computes true values; holds what depends only on the configuration."""

    def __init__(self, config: DeviceConfig, layout: Layout | None = None) -> None:
        """A layout may be shared by all devices of one map, process and plc_scan_ms; else ValueError."""
        self._layout = layout or Layout(config)
        self._plan = self._layout.plan
        if not self._plan.is_of(config):
            raise ValueError(f"the layout is not that of {config.device.device_id}")
        self._parameters = self._plan.parameters
        self._keys = [
            noise_key(config.device.seed, config.device.device_id, p.parameter_id) for p in self._parameters
        ]
        self.cycle_scans = self._plan.process.cycle_scans

    def values_at(self, plc_scans: Scans, writes: Sequence[Write] = ()) -> Values:
        """Values at PLC scans of shape (s,), as decoded from the registers: shape (s, parameters).

        `writes` are those of one epoch, in the order in which they were made. Parameters without a signal
        are NaN: only a real PLC knows them. Strings are NaN too. Raises ValueError if the writes are of
        more than one epoch.
        """
        if len({write.epoch for write in writes}) > 1:
            raise ValueError("the writes are of more than one epoch, in which PLC scans start again")
        history = History(self._plan, writes)
        columns = self._plan.with_signal
        values = np.full((len(plc_scans), len(self._parameters)), np.nan)
        values[:, columns] = self.signals_at(plc_scans, columns, history)
        held = [
            (column, plc_scans >= history.held[parameter_id][0][0], values[:, column].copy())
            for parameter_id in history.held
            if (column := self._plan.columns.get(parameter_id)) in columns
        ]
        for table in self._layout.tables.values():
            if table.columns:
                data = np.zeros((len(values), table.size), dtype=np.uint8)
                table.signals.encode(values[:, table.columns], data)
                values[:, table.columns] = table.signals.decode(data)
        for column, is_held, written in held:
            read = _read(self._parameters[column], written, values[:, column])
            values[:, column] = np.where(is_held, read, values[:, column])
        return values

    def value_at(self, parameter_id: int, plc_scan: int, writes: Sequence[Write] = ()) -> float:
        """One value; see `values_at`."""
        row = self.values_at(np.array([plc_scan], dtype=np.int64), writes)[0]
        return float(row[self._plan.columns[parameter_id]])

    def written_value(self, write: Write) -> float:
        """What a client reads of the written parameter in the rest of the write's PLC scan."""
        column = self._plan.columns[write.parameter_id]
        (part,) = self._layout.parts.of([column])
        data = np.zeros(self._layout.tables[part.table].size, dtype=np.uint8)
        value = np.array([write.value])
        part.codec.encode(value, data)
        return float(_read(self._parameters[column], value, part.codec.decode(data))[0])

    def signals_at(self, plc_scans: Scans, columns: Sequence[int], history: History) -> Values:
        """Values of some parameters, each with a signal, before they are rounded to what registers hold."""
        values = np.empty((len(columns), len(plc_scans)))
        evaluation = _Evaluation(self._plan, self._keys, plc_scans, history)
        if len(plc_scans) <= _FEW:
            evaluation.roll(columns)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large is infinite, and stays that
            for i, column in enumerate(columns):
                values[i] = evaluation.shown(column, plc_scans)
        return values.T


def _read(parameter: Parameter, written: Values, rounded: Values) -> Values:
    """What clients read of values that one of them wrote: bits that are no number stay, and so do all
    others, though to encode what was decoded from them can miss them by a few units in the last place."""
    size = np.maximum(np.abs(written), abs(parameter.offset))
    with np.errstate(invalid="ignore"):  # infinite
        is_same = np.abs(rounded - written) <= _LAST_PLACES * np.spacing(size)
    return np.where(np.isnan(written) | is_same, written, rounded)


class _Evaluation:
    """Computes parameters at the same PLC scans; remembers what several of them need."""

    def __init__(self, plan: TruthPlan, keys: Sequence[int], plc_scans: Scans, history: History) -> None:
        self._plan = plan
        self._keys = keys
        self._plc_scans = plc_scans
        self._history = history
        self._none: Values = np.full(plc_scans.shape, np.nan)
        self._state = self._plan.process.state_at(plc_scans, history.stages)
        self._dice: dict[int, Values] = {}

    def roll(self, columns: Sequence[int]) -> None:
        """Compute the noise of several parameters at once: for few PLC scans that is much cheaper."""
        noisy = [column for column in columns if column in self._plan.noisy]
        keys = np.array([self._keys[column] for column in noisy], dtype=np.uint64)
        self._dice = dict(zip(noisy, uniform(keys[:, np.newaxis], self._plc_scans), strict=True))

    def shown(self, column: int, plc_scans: Scans) -> Values:
        """What the signal makes, or what was written since."""
        parameter = self._plan.parameters[column]
        if parameter.signal is None:
            return self._none
        values = self._made(column, parameter.signal, plc_scans)
        if held := self._history.held.get(parameter.parameter_id):
            first, written = (np.array(part) for part in zip(*held, strict=True))
            latest: NDArray[np.intp] = np.searchsorted(first, plc_scans, side="right") - 1
            values = np.where(latest >= 0, written[latest], values)
        return values

    def _made(self, column: int, signal: Signal, plc_scans: Scans) -> Values:
        looked_at = signal.looked_at(plc_scans)
        state = self._state
        if signal.uses_process and looked_at is not self._plc_scans:
            state = self._plan.process.state_at(looked_at, self._history.stages)
        of = self._plan.parameters[column].setpoint
        setpoint = self._none
        if signal.uses_setpoint and of is not None:
            setpoint = self.shown(self._plan.columns[of], looked_at)
        return signal.at(
            Moment(
                looked_at,
                self._plan.plc_scan_ms,
                state,
                self._plan.process.step_names,
                self._keys[column],
                setpoint,
                self._history.legs(self._plan.parameters[column].parameter_id)
                if isinstance(signal, Lag)
                else (),
                self._dice.get(column) if looked_at is self._plc_scans else None,
            )
        )
