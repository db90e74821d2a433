"""Checks of a device file's process: the parameters and steps that it and the signals name."""

from __future__ import annotations

from plcsim.config import DeviceConfig, ParameterSpec
from plcsim.parameters import DataType
from plcsim.process import IDLE, Process, ProcessSpec
from plcsim.signals import Follow, Steps
from plcsim.yaml_file import Complaint

MAX_CYCLE_SCANS = 10_000_000
"""Of one execution of a recipe: eleven days at 100 ms."""


def check_process(config: DeviceConfig) -> None:
    """Raise Complaint for the first parameter or step that the process lacks, or for one too long."""
    spec, specs = config.process, {s.full_name: s for group in config.groups for s in group.parameters}
    if spec is not None:
        for key, name in (("running", spec.running), ("number", spec.number)):
            if name not in specs:
                raise Complaint(("process", key), f"{name!r} is not a parameter (component.name)")
            if not specs[name].readable or specs[name].type is DataType.STRING:
                raise Complaint(("process", key), f"{name!r} must be a number that can be read")
        _check_commands(spec, specs)
        if (scans := Process.scans_of(spec, config.device.plc_scan_s)) > MAX_CYCLE_SCANS:
            raise Complaint(
                ("process",),
                f"one execution takes {scans:,.0f} PLC scans; at most {MAX_CYCLE_SCANS:,} can be laid out",
            )
    _check_steps(config)


def _check_commands(spec: ProcessSpec, specs: dict[str, ParameterSpec]) -> None:
    for command, name in spec.commands.named().items():
        target = specs.get(name)
        if target is None or target.type is not DataType.BOOL or not target.writable:
            raise Complaint(
                ("process", "commands", command.value), f"{name!r} is not a writable bool (component.name)"
            )


def _check_steps(config: DeviceConfig) -> None:
    names = [IDLE]
    if config.process is not None:
        names += [step.name for phase in config.process.phases for step in phase.steps]
    steps = list(dict.fromkeys(names))
    for f, failure in enumerate(config.process.failures if config.process else []):
        if failure.step not in steps:
            raise Complaint(("process", "failures", f, "step"), _no_step(failure.step, steps))
    for g, group in enumerate(config.groups):
        for p, parameter in enumerate(group.parameters):
            signal = parameter.signal
            used = list(signal.levels) if isinstance(signal, Steps) else []
            used += (signal.during or []) if isinstance(signal, Follow) else []
            for step in used:
                if step not in steps:
                    raise Complaint(("groups", g, "parameters", p, "signal"), _no_step(step, steps))


def _no_step(step: str, steps: list[str]) -> str:
    return f"{step!r} is not a step of the recipe; there are {', '.join(steps)}"
