"""Checks of what signals and the process ask of other parameters and of the recipe."""

from __future__ import annotations

from plcsim.config import DeviceConfig, ParameterSpec
from plcsim.process import IDLE, FailureSpec, ProcessSpec
from plcsim.recordings import replays
from plcsim.signals import Constant, Lag
from plcsim.yaml_file import Complaint


def check_signals(config: DeviceConfig) -> None:
    """Raise Complaint for the first signal, command or failure that nothing could come of.

    That the parameters and steps which they name exist must have been checked before.
    """
    specs = {spec.full_name: spec for group in config.groups for spec in group.parameters}
    for g, group in enumerate(config.groups):
        for p, spec in enumerate(group.parameters):
            if isinstance(spec.signal, Lag) and spec.setpoint is not None:
                _check_lag(("groups", g, "parameters", p, "signal"), specs[spec.setpoint])
    if config.process is not None:
        _check_commands(config.process, specs)
        for f, failure in enumerate(config.process.failures):
            _check_failure(("process", "failures", f), failure, config.process)


def check_samples(config: DeviceConfig) -> None:
    """Raise Complaint for a replay without what was recorded: that comes with its device file only."""
    for place, replay in replays(config):
        if not replay.times:
            raise Complaint(place, f"the samples of {replay.file!r} are missing; load the device file itself")


def _check_lag(place: tuple[str | int, ...], target: ParameterSpec) -> None:
    if not isinstance(target.signal, Constant):
        found = "no" if target.signal is None else f"a {target.signal.kind!r}"
        raise Complaint(
            place, f"'lag' goes after a constant set value; {target.full_name!r} has {found} signal"
        )


def _check_commands(process: ProcessSpec, specs: dict[str, ParameterSpec]) -> None:
    named = process.commands.named()
    for command, name in named.items():
        signal = specs[name].signal
        if not isinstance(signal, Constant) or signal.value != 0:
            raise Complaint(
                ("process", "commands", command.value),
                f"{name!r} must be a push button: signal: {{kind: constant, value: 0}}",
            )
        if list(named.values()).count(name) > 1:
            raise Complaint(("process", "commands", command.value), f"{name!r} is more than one command")
    if process.mode == "commanded" and process.commands.start is None:
        raise Complaint(("process", "mode"), "'commanded' never runs without commands: {start: ...}")
    if process.failures and process.commands.acknowledge is None:
        raise Complaint(("process", "failures"), "they last for ever without commands: {acknowledge: ...}")


def _check_failure(place: tuple[str | int, ...], failure: FailureSpec, process: ProcessSpec) -> None:
    if failure.step == IDLE:
        raise Complaint((*place, "step"), f"{IDLE!r} is not a step of the recipe, which fails in its steps")
    steps = [step for phase in process.phases for step in phase.steps if step.name == failure.step]
    if steps and failure.after_s >= steps[0].seconds:
        raise Complaint(
            (*place, "after_s"),
            f"{failure.after_s:g}: must be less than {steps[0].seconds:g}, which {failure.step!r} takes",
        )
