"""What the true values of all devices of one map and process have in common: computed once, shared."""

from __future__ import annotations

from collections.abc import Sequence

from plcsim.config import DeviceConfig
from plcsim.parameters import DataType, Parameter
from plcsim.process import Command, Process
from plcsim.signals import Constant, Lag, Leg


class TruthPlan:
    """Which parameter depends on what; nothing in it ever changes."""

    def __init__(self, config: DeviceConfig) -> None:
        self.parameters: Sequence[Parameter] = config.register_map.parameters
        self.plc_scan_ms = config.device.plc_scan_ms
        self._spec = config.process
        self.process = Process(config.process, config.device.plc_scan_s)
        self.columns = {p.parameter_id: i for i, p in enumerate(self.parameters)}
        self.with_signal = [
            i for i, p in enumerate(self.parameters) if p.signal and p.data_type is not DataType.STRING
        ]
        """Columns of the numbers that signals make."""
        self.commands = self._commands(config)
        """By parameter_id of the push buttons."""
        self.lags = {p.parameter_id: p.signal for p in self.parameters if isinstance(p.signal, Lag)}
        self.noisy = frozenset(i for i in self.with_signal if _is_noisy(self.parameters[i]))
        """Columns whose noise can be computed in one go: it is of the PLC scans that are asked for."""
        self.look_back = max((p.signal.update_every for p in self.parameters if p.signal), default=1) - 1
        """By how many PLC scans a value can be late because its signal seldom updates it."""
        self._followers: dict[int, list[int]] = {}
        for i, parameter in enumerate(self.parameters):
            if parameter.setpoint is not None and parameter.signal and parameter.signal.uses_setpoint:
                self._followers.setdefault(parameter.setpoint, []).append(i)
        self._of_process = [i for i, p in enumerate(self.parameters) if p.signal and p.signal.uses_process]

    def is_of(self, config: DeviceConfig) -> bool:
        """Whether the plan is that of a device: its process and PLC scan time are the same."""
        return self.plc_scan_ms == config.device.plc_scan_ms and self._spec == config.process

    def dependents(self, parameter_id: int) -> list[int]:
        """Columns, with a signal, whose values change once a client has written a parameter.

        The parameter itself is not among them: it holds what was written.
        """
        if parameter_id in self.commands:
            return self._of_process
        return self._followers.get(parameter_id, [])

    def lags_after(self, parameter_id: int) -> list[tuple[int, Lag]]:
        """parameter_id and signal of each lag that goes after a set value."""
        followers = (self.parameters[i].parameter_id for i in self._followers.get(parameter_id, []))
        return [(follower, self.lags[follower]) for follower in followers if follower in self.lags]

    def first_leg(self, parameter_id: int) -> Leg:
        """Where a lag starts."""
        set_value = self.parameters[self.columns[parameter_id]].setpoint
        signal = None if set_value is None else self.parameters[self.columns[set_value]].signal
        if not isinstance(signal, Constant):
            raise ValueError(f"parameter {parameter_id} has no constant set value to go after")
        return self.lags[parameter_id].first_leg(signal.value)

    def _commands(self, config: DeviceConfig) -> dict[int, Command]:
        if config.process is None:
            return {}
        ids = {p.full_name: p.parameter_id for p in self.parameters if p.data_type is DataType.BOOL}
        return {ids[name]: command for command, name in config.process.commands.named().items()}


def _is_noisy(parameter: Parameter) -> bool:
    signal = parameter.signal
    return signal is not None and signal.is_noisy and signal.update_every == 1
