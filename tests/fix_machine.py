"""A machine whose process is commanded by coils and whose temperature lags behind its set value."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from plcsim.codec import Codec
from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import parse_device
from plcsim.parameters import Table
from plcsim.writes import Event, Write, WriteRecord

START, STOP, ACKNOWLEDGE = 0, 1, 2
"""Addresses of the push buttons."""
SET_VALUE, NOTE = 0, 2
"""Addresses of holding registers."""
BUTTON_IDS = {START: 1, STOP: 2, ACKNOWLEDGE: 3}
RUNNING_ID, NUMBER_ID, STEP_ID, STATE_ID, SET_VALUE_ID, LAG_ID, FOLLOW_ID = 10, 11, 12, 13, 20, 14, 15

RECIPE = [("heat", 0.3), ("hold", 0.2), ("heat", 0.1), ("cool", 0.4)]
IDLE_S = 0.5
PROCESS: dict[str, Any] = {
    "recipe": "bake",
    "running": "plc.running",
    "number": "plc.number",
    "idle_s": IDLE_S,
    "phases": [{"steps": [{"name": name, "seconds": seconds} for name, seconds in RECIPE]}],
    "commands": {"start": "plc.start", "stop": "plc.stop", "acknowledge": "plc.acknowledge"},
}


def machine(lag: dict[str, Any] | None = None, **process: Any) -> DeviceConfig:
    """A device of 100 ms PLC scans; `process` changes keys of its process, `lag` of its lag."""
    zero = {"kind": "constant", "value": 0}
    inputs = [
        (RUNNING_ID, "running", "uint16", {"kind": "process_running"}),
        (NUMBER_ID, "number", "uint16", {"kind": "process_number"}),
        (STEP_ID, "step", "uint16", {"kind": "process_step"}),
        (STATE_ID, "state", "uint16", {"kind": "process_state"}),
        (LAG_ID, "temperature", "float64", {"kind": "lag", "tau_s": 2.0, **(lag or {})}),
        (FOLLOW_ID, "flow", "float64", {"kind": "follow", "noise": 0.5, "update_every": 3}),
    ]
    group = {"table": "input_register", "name": "values"}
    buttons = [
        {"id": BUTTON_IDS[i], "component": "plc", "name": name, "address": i, "type": "bool",
         "writable": True, "signal": zero}
        for i, name in enumerate(["start", "stop", "acknowledge"])
    ]  # fmt: skip
    parameters = [
        {"id": id_, "component": "plc", "name": name, "address": 4 * i, "type": data_type, "signal": signal}
        for i, (id_, name, data_type, signal) in enumerate(inputs)
    ]
    for parameter in parameters[-2:]:
        parameter["setpoint"] = "plc.set_value"
    settings = [
        {"id": SET_VALUE_ID, "component": "plc", "name": "set_value", "address": SET_VALUE,
         "type": "float32", "writable": True, "limits": [-50, 500],
         "signal": {"kind": "constant", "value": 20.0}},
        {"id": 21, "component": "plc", "name": "note", "address": NOTE, "type": "int16", "writable": True},
    ]  # fmt: skip
    return parse_device(
        {
            "device": {"device_id": "machine-1", "seed": 5, "plc_scan_ms": 100},
            "process": PROCESS | process,
            "groups": [
                {"name": "buttons", "table": "coil", "parameters": buttons},
                {**group, "consistent": False, "parameters": parameters},
                {"name": "settings", "table": "holding_register", "parameters": settings},
            ],
        }
    )


class Operated:
    """A device of a machine, and everything that was written into it."""

    def __init__(self, config: DeviceConfig) -> None:
        self.config = config
        self.events: list[Event] = []
        self.device = Device(config, self.events.append)

    @property
    def writes(self) -> list[Write]:
        return [write for event in self.events if isinstance(event, WriteRecord) for write in event.writes]

    def press(self, button: int, value: bool = True) -> None:
        self.device.write(Table.COIL, button, bytes([value]))

    def set(self, value: float) -> None:
        self.device.write(Table.HOLDING_REGISTER, SET_VALUE, struct.pack(">f", value))

    def shown(self) -> dict[int, float]:
        """What the register image says now, by parameter_id."""
        values: dict[int, float] = {}
        for table, image in self.device.images.items():
            parameters = self.config.register_map.in_table(table)
            if parameters:
                decoded = Codec(parameters, table, 0).decode(np.frombuffer(image.data, dtype=np.uint8))
                values |= {p.parameter_id: float(v) for p, v in zip(parameters, decoded, strict=True)}
        return values
