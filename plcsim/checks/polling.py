"""Checks of how a device file wants its parameters polled: poll groups, and what a request passes over."""

from __future__ import annotations

from itertools import pairwise

from plcsim.checks.parameters import Place
from plcsim.config import DeviceConfig
from plcsim.parameters import Parameter
from plcsim.yaml_file import Complaint


def check_polling(config: DeviceConfig) -> None:
    """Raise Complaint for the first thing that cannot be polled as the file says."""
    _check_names(config)
    _check_setpoints(config)
    _check_process(config)
    _check_max_gap(config)
    _check_outstanding(config)


def _check_names(config: DeviceConfig) -> None:
    known = config.logging.poll_groups
    for g, group in enumerate(config.groups):
        if group.poll and group.poll not in known:
            listed = ", ".join(known) or "there are none"
            raise Complaint(("groups", g, "poll"), f"{group.poll!r} is not in logging.poll_groups ({listed})")
    for name in known:
        if all(group.poll != name for group in config.groups):
            raise Complaint(("logging", "poll_groups", name), f"no group has poll: {name}")


def _check_setpoints(config: DeviceConfig) -> None:
    """A value and its set value are stored in one row, so both come from one scan."""
    poll_of = {p.parameter_id: p.poll for p in config.register_map.parameters}
    by_id = {p.parameter_id: p for p in config.register_map.parameters}
    for g, group in enumerate(config.groups):
        for number, spec in enumerate(group.parameters):
            setpoint = by_id[spec.id].setpoint
            if setpoint is None or poll_of[setpoint] == group.poll:
                continue
            place: Place = ("groups", g, "parameters", number, "setpoint")
            raise Complaint(
                place,
                f"{spec.setpoint!r} is polled {_every(poll_of[setpoint])}, {spec.full_name} "
                f"{_every(group.poll)}: both must be in one poll group",
            )


def _check_process(config: DeviceConfig) -> None:
    if config.process is None:
        return
    poll_of = {p.full_name: p.poll for p in config.register_map.parameters}
    running, number = poll_of[config.process.running], poll_of[config.process.number]
    if running != number:
        raise Complaint(
            ("process", "number"),
            f"{config.process.number!r} is polled {_every(number)}, {config.process.running} "
            f"{_every(running)}: both must be in one poll group",
        )


def _check_max_gap(config: DeviceConfig) -> None:
    """What must come in one request cannot be farther apart than a request may pass over."""
    most = config.modbus.max_gap
    if most is None:
        return
    for g, group in enumerate(config.groups):
        if not group.consistent:
            continue
        members = [p for p in config.register_map.in_table(group.table) if p.group == group.name]
        for before, after in pairwise(p for p in members if p.readable):
            if after.address - before.end > most:
                raise Complaint(("groups", g, "name"), _too_far(config, before, after))


def _too_far(config: DeviceConfig, before: Parameter, after: Parameter) -> str:
    return (
        f"{before.group!r} is read in one request, which would pass over {after.address - before.end} "
        f"addresses between {before.full_name} and {after.full_name}; modbus.max_gap is "
        f"{config.modbus.max_gap}: split the group, or say consistent: false"
    )


def _every(poll: str) -> str:
    return f"in {poll!r}" if poll else "in no poll group"


def _check_outstanding(config: DeviceConfig) -> None:
    modbus = config.modbus
    if modbus.max_outstanding > 1 and modbus.pause_between_requests_s > 0:
        raise Complaint(
            ("modbus", "max_outstanding"),
            f"{modbus.max_outstanding} requests on their way at once leave no room for "
            "pause_between_requests_s: give one of the two",
        )
