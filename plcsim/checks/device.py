"""Checks of a device file that no single parameter shows: overlaps, duplicates, references."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from plcsim.checks.parameters import Place, check_parameter
from plcsim.checks.polling import check_polling
from plcsim.checks.process import check_process
from plcsim.checks.signals import check_signals
from plcsim.config import DeviceConfig, GroupSpec, ParameterSpec
from plcsim.limits import MAX_ADDRESS
from plcsim.parameters import AddressRange, DataType, Parameter, RegisterMap, Table
from plcsim.yaml_file import Complaint


def check_device(config: DeviceConfig) -> None:
    """Raise Complaint for the first thing in which the parts of a device contradict each other."""
    _check_unique(config)
    by_name = {spec.full_name: spec for _, _, spec in _specs(config)}
    for place, group, spec in _specs(config):
        _check_address((*place, "address"), config, spec.address, group.table)
        check_parameter(place, group, spec)
        _check_setpoint(place, spec, by_name)
    for g, gap in enumerate(config.readable_gaps):
        _check_address(("readable_gaps", g, "address"), config, gap.address, gap.table)
    _check_ends(config)
    for table in Table:
        _check_overlap(config, table)
    _check_gaps(config)
    _check_groups(config)
    check_process(config)
    check_polling(config)
    check_signals(config)


def _specs(config: DeviceConfig) -> Iterator[tuple[Place, GroupSpec, ParameterSpec]]:
    for g, group in enumerate(config.groups):
        for p, spec in enumerate(group.parameters):
            yield ("groups", g, "parameters", p), group, spec


def _places(config: DeviceConfig) -> dict[int, Place]:
    return {spec.id: place for place, _, spec in _specs(config)}


def _check_unique(config: DeviceConfig) -> None:
    ids: dict[int, str] = {}
    names: dict[str, int] = {}
    for place, _, spec in _specs(config):
        if spec.id in ids:
            raise Complaint((*place, "id"), f"{spec.id} is already the id of {ids[spec.id]}")
        if spec.full_name in names:
            raise Complaint(
                (*place, "name"),
                f"{spec.full_name!r} is already the name of parameter {names[spec.full_name]}",
            )
        ids[spec.id] = spec.full_name
        names[spec.full_name] = spec.id
    _check_fault_names(config)
    groups = [group.name for group in config.groups]
    for g, name in enumerate(groups):
        if name in groups[:g]:
            raise Complaint(("groups", g, "name"), f"{name!r} is already the name of a group")


def _check_fault_names(config: DeviceConfig) -> None:
    named: set[str] = set()
    for number, fault in enumerate(config.faults):
        if fault.name in named:
            raise Complaint(("faults", number, "name"), f"{fault.name!r} is already the name of a fault")
        if fault.name is not None:
            named.add(fault.name)


def _check_address(place: Place, config: DeviceConfig, written: int, table: Table) -> None:
    try:
        config.notation.zero_based(written, table)
    except ValueError as exc:
        raise Complaint(place, str(exc)) from None


def _check_setpoint(place: Place, spec: ParameterSpec, by_name: dict[str, ParameterSpec]) -> None:
    if spec.setpoint is None:
        return
    target = by_name.get(spec.setpoint)
    if target is None or target is spec:
        raise Complaint((*place, "setpoint"), f"{spec.setpoint!r} is not another parameter (component.name)")
    if target.type is DataType.STRING:
        raise Complaint((*place, "setpoint"), f"{spec.setpoint!r} is a string; a set value is a number")
    if target.setpoint is not None:
        raise Complaint(
            (*place, "setpoint"), f"{spec.setpoint!r} has a setpoint itself; a set value has none"
        )


def _check_ends(config: DeviceConfig) -> None:
    places, written = _places(config), config.notation.written
    for p in config.register_map.parameters:
        if p.end > MAX_ADDRESS + 1:
            raise Complaint(
                (*places[p.parameter_id], "address"),
                f"{written(p.address, p.table)}: the {p.data_type.value} would end behind address "
                f"{written(MAX_ADDRESS, p.table)}",
            )
        most = config.modbus.max_coils if p.table.is_bits else config.modbus.max_registers
        if p.readable and p.width > most:
            raise Complaint(
                (*places[p.parameter_id], "type"),
                f"{p.data_type.value!r} takes {p.width} addresses; one request reads at "
                f"most {most}, and a value is never split",
            )


def _check_overlap(config: DeviceConfig, table: Table) -> None:
    places, written = _places(config), config.notation.written
    for before, after in pairwise(config.register_map.in_table(table)):
        if after.address >= before.end:
            continue
        place = places[after.parameter_id]
        here = written(after.address, table)
        if before.bit is None or after.bit is None:
            raise Complaint(
                (*place, "address"),
                f"{here}: {after.full_name} overlaps {before.full_name}, which takes "
                f"{table.value} {written(before.address, table)} to {written(before.end - 1, table)}",
            )
        if before.bit == after.bit:
            raise Complaint(
                (*place, "bit"),
                f"{after.bit}: {before.full_name} is that bit of {table.value} {here}",
            )
        for key in ("writable", "readable", "byte_order"):
            if getattr(before, key) != getattr(after, key):
                raise Complaint(
                    (*place, key),
                    f"{after.full_name} and {before.full_name} share {table.value} {here}, which is read and "
                    "written as a whole: they must say the same",
                )


def _check_gaps(config: DeviceConfig) -> None:
    written = config.notation.written
    unreadable = [p for p in config.register_map.parameters if not p.readable]
    for g, gap in enumerate(config.register_map.readable_gaps):
        if gap.end > MAX_ADDRESS + 1:
            raise Complaint(
                ("readable_gaps", g, "count"),
                f"{gap.count} from {written(gap.address, gap.table)} ends behind address "
                f"{written(MAX_ADDRESS, gap.table)}",
            )
        for p in unreadable:
            if p.table is gap.table and p.address < gap.end and gap.address < p.end:
                raise Complaint(
                    ("readable_gaps", g, "address"),
                    f"{gap.table.value} {written(p.address, gap.table)} is {p.full_name}, which "
                    "cannot be read (readable: false)",
                )


def _check_groups(config: DeviceConfig) -> None:
    members: dict[str, list[Parameter]] = {group.name: [] for group in config.groups}
    for parameter in config.register_map.parameters:
        if parameter.readable:
            members[parameter.group].append(parameter)
    runs = {table: config.register_map.readable(table) for table in Table}
    for g, group in enumerate(config.groups):
        if group.consistent and members[group.name]:
            place = ("groups", g, "name")
            _check_one_request(config, place, members[group.name], runs[group.table])


def _check_one_request(
    config: DeviceConfig, place: Place, members: list[Parameter], runs: list[AddressRange]
) -> None:
    name, table, written = members[0].group, members[0].table, config.notation.written
    start, end = min(p.address for p in members), max(p.end for p in members)
    most = config.modbus.max_coils if table.is_bits else config.modbus.max_registers
    if end - start > most:
        raise Complaint(
            place,
            f"{name!r} takes {end - start} addresses ({written(start, table)} to {written(end - 1, table)}); "
            f"one request reads at most {most}: split the group, or say consistent: false",
        )
    if not any(run.address <= start and end <= run.end for run in runs):
        hole = next(run.end for run in runs if run.address <= start < run.end)
        raise Complaint(
            place,
            f"{name!r} cannot be read in one request: {table.value} {written(hole, table)} "
            f"{_hole(config.register_map, table, hole)}, or split the group",
        )


def _hole(register_map: RegisterMap, table: Table, address: int) -> str:
    for p in register_map.in_table(table):
        if p.address <= address < p.end:
            return f"is {p.full_name}, which cannot be read (readable: false): say consistent: false"
    return "is a hole; list it in readable_gaps if the device answers it"
