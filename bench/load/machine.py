"""Makes a machine of any number of parameters: what the bench measures with."""

from __future__ import annotations

from typing import Any

from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

FEWEST_PARAMETERS = 5
GROUP_SIZE = 40
"""Parameters of a group: as float32 they and the counter stay below the 125 registers of a request."""

_LONG_S = 900_000
"""Longer than any trial: the machine stays in one state of its process."""

_KINDS: list[dict[str, Any]] = [
    {
        "type": "float32",
        "signal": {"kind": "sine", "mean": 250.0, "amplitude": 4.0, "period_s": 30.0, "noise": 0.2},
    },
    {"type": "float32", "signal": {"kind": "follow", "noise": 0.5}, "setpoint": "unit.set_value"},
    {"type": "uint16", "scale": 0.1, "signal": {"kind": "noise", "mean": 42.0, "amplitude": 3.0}},
    {
        "type": "int16",
        "scale": 0.1,
        "signal": {"kind": "sine", "mean": 23.5, "amplitude": 9.0, "period_s": 70.0},
    },
    {"type": "uint32", "signal": {"kind": "counter", "step": 3, "start": 120000}},
    {
        "type": "float32",
        "signal": {"kind": "steps", "levels": {"run": 18.0}, "otherwise": 11.5, "noise": 0.2},
    },
]
"""The mix of types and signals, in turn; about one in six has a set value, as on real machines."""


def machine(
    parameters: int, device_id: str = "bench-1", running: bool = True, plc_scan_ms: float = 100.0
) -> DeviceConfig:
    """A device with exactly so many parameters (at least 5), its process running or idle throughout."""
    if parameters < FEWEST_PARAMETERS:
        raise ValueError(f"{parameters} parameters: at least {FEWEST_PARAMETERS} are needed")
    specs = [_spec(i) for i in range(parameters)]
    address = 0
    for spec in specs:
        spec["address"] = address
        address += 1 if spec["type"].endswith("16") else 2
    groups = [
        {"name": f"group_{n}", "table": "input_register", "parameters": specs[i : i + GROUP_SIZE]}
        for n, i in enumerate(range(0, parameters, GROUP_SIZE), 1)
    ]
    idle_s, run_s = (plc_scan_ms / 1000, _LONG_S) if running else (_LONG_S, plc_scan_ms / 1000)
    return parse_device(
        {
            "device": {"device_id": device_id, "seed": parameters, "plc_scan_ms": plc_scan_ms},
            "process": {
                "recipe": "bench",
                "running": "unit.running",
                "number": "unit.number",
                "idle_s": float(idle_s),
                "phases": [{"steps": [{"name": "run", "seconds": float(run_s)}]}],
            },
            "groups": groups,
        },
        f"machine of {parameters} parameters",
    )


def _spec(index: int) -> dict[str, Any]:
    fixed = {
        1: {"name": "running", "type": "uint16", "signal": {"kind": "process_running"}},
        2: {"name": "number", "type": "uint32", "signal": {"kind": "process_number"}},
        3: {"name": "set_value", "type": "float32", "signal": {"kind": "constant", "value": 180.0}},
    }
    base = {"id": index + 1, "component": "unit"}
    if index % GROUP_SIZE == 0:
        return {
            **base,
            "name": f"plc_scan_{index // GROUP_SIZE + 1}",
            "type": "uint32",
            "signal": {"kind": "plc_scan"},
        }
    if index in fixed:
        return {**base, **fixed[index]}
    return {
        **base,
        "component": f"unit_{index % 12 + 1}",
        "name": f"value_{index + 1}",
        **_KINDS[index % len(_KINDS)],
    }
