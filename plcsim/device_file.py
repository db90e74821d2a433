"""Loads a device file and checks what no single key shows: overlaps, duplicates, references."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from plcsim.config import DeviceConfig, GroupSpec, ParameterSpec
from plcsim.limits import MAX_ADDRESS
from plcsim.parameters import AddressRange, DataType, Parameter, Table
from plcsim.process import Process
from plcsim.signals import Constant, Follow, Steps
from plcsim.yaml_file import Complaint, load_yaml, parse

MAX_CYCLE_SCANS = 10_000_000
"""Of one execution of a recipe: eleven days at 100 ms."""

Place = tuple[str | int, ...]


def load_device(path: Path | str) -> DeviceConfig:
    """Load a device file. Raises ConfigError: one line that names file, line, key and value."""
    return load_yaml(path, DeviceConfig, check_device)


def parse_device(data: Any, source: str = "configuration") -> DeviceConfig:
    """The same from what `DeviceConfig.to_json` gave."""
    return parse(data, DeviceConfig, check_device, source)


def check_device(config: DeviceConfig) -> None:
    """Raise Complaint for the first thing in which the parts of a device contradict each other."""
    _check_unique(config)
    by_name = {spec.full_name: spec for _, _, spec in _specs(config)}
    for place, group, spec in _specs(config):
        _check_type(place, group, spec)
        _check_setpoint(place, spec, by_name)
    _check_overlap(config)
    _check_groups(config)
    _check_process(config)


def _specs(config: DeviceConfig) -> Iterator[tuple[Place, GroupSpec, ParameterSpec]]:
    for g, group in enumerate(config.groups):
        for p, spec in enumerate(group.parameters):
            yield ("groups", g, "parameters", p), group, spec


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
    groups = [group.name for group in config.groups]
    for g, name in enumerate(groups):
        if name in groups[:g]:
            raise Complaint(("groups", g, "name"), f"{name!r} is already the name of a group")


def _check_type(place: Place, group: GroupSpec, spec: ParameterSpec) -> None:
    table = group.table
    if table.is_bits and spec.type not in (DataType.BOOL, DataType.UINT16, DataType.UINT32):
        raise Complaint(
            (*place, "type"),
            f"{spec.type.value!r} cannot lie in a {table.value}; use bool, or "
            "uint16 or uint32 over 16 or 32 of them",
        )
    if not table.is_bits and spec.type is DataType.BOOL:
        raise Complaint((*place, "type"), f"'bool' lies in a coil or discrete_input, not in {table.value}")
    if spec.writable and not table.is_writable:
        raise Complaint((*place, "writable"), f"a client cannot write {table.value}s")
    if spec.writable and not isinstance(spec.signal, Constant | None):
        raise Complaint(
            (*place, "writable"),
            f"a {spec.signal.kind!r} signal makes its own value; only a 'constant' one can be written",
        )
    if spec.scale == 0.0:
        raise Complaint((*place, "scale"), "0 would make every value the same; use 1 for none")
    if spec.limits and spec.limits[0] > spec.limits[1]:
        raise Complaint((*place, "limits"), f"{spec.limits} must be [lowest, highest]")
    if isinstance(spec.signal, Follow) and spec.setpoint is None:
        raise Complaint((*place, "signal"), "'follow' needs a setpoint that it can follow")


def _check_setpoint(place: Place, spec: ParameterSpec, by_name: dict[str, ParameterSpec]) -> None:
    if spec.setpoint is None:
        return
    target = by_name.get(spec.setpoint)
    if target is None or target is spec:
        raise Complaint((*place, "setpoint"), f"{spec.setpoint!r} is not another parameter (component.name)")
    if target.setpoint is not None:
        raise Complaint(
            (*place, "setpoint"), f"{spec.setpoint!r} has a setpoint itself; a set value has none"
        )


def _check_overlap(config: DeviceConfig) -> None:
    places = {spec.id: place for place, _, spec in _specs(config)}
    for parameter in config.register_map.parameters:
        if parameter.end > MAX_ADDRESS + 1:
            raise Complaint(
                (*places[parameter.parameter_id], "address"),
                f"{parameter.address}: the {parameter.data_type.value} would end behind address "
                f"{MAX_ADDRESS}",
            )
        most = config.modbus.max_coils if parameter.table.is_bits else config.modbus.max_registers
        if parameter.width > most:
            raise Complaint(
                (*places[parameter.parameter_id], "type"),
                f"{parameter.data_type.value!r} takes {parameter.width} addresses; one request reads at "
                f"most {most}, and a value is never split",
            )
    for table in Table:
        ordered = config.register_map.in_table(table)
        for before, after in pairwise(ordered):
            if after.address < before.end:
                raise Complaint(
                    (*places[after.parameter_id], "address"),
                    f"{after.address}: {after.full_name} overlaps {before.full_name}, which takes "
                    f"{table.value} {before.address} to {before.end - 1}",
                )
        for g, gap in enumerate(config.readable_gaps):
            if gap.table is table and gap.address + gap.count > MAX_ADDRESS + 1:
                raise Complaint(
                    ("readable_gaps", g, "count"),
                    f"{gap.count} from {gap.address} ends behind address {MAX_ADDRESS}",
                )


def _check_groups(config: DeviceConfig) -> None:
    members: dict[str, list[Parameter]] = {group.name: [] for group in config.groups}
    for parameter in config.register_map.parameters:
        members[parameter.group].append(parameter)
    runs = {table: config.register_map.readable(table) for table in Table}
    for g, group in enumerate(config.groups):
        if group.consistent:
            place = ("groups", g, "name")
            _check_one_request(config, place, group.name, members[group.name], runs[group.table])


def _check_one_request(
    config: DeviceConfig,
    place: Place,
    name: str,
    members: list[Parameter],
    runs: list[AddressRange],
) -> None:
    table = members[0].table
    start, end = min(p.address for p in members), max(p.end for p in members)
    most = config.modbus.max_coils if table.is_bits else config.modbus.max_registers
    if end - start > most:
        raise Complaint(
            place,
            f"{name!r} takes {end - start} addresses ({start} to {end - 1}); one request "
            f"reads at most {most}: split the group, or say consistent: false",
        )
    if not any(run.address <= start and end <= run.end for run in runs):
        hole = next(run.end for run in runs if run.address <= start < run.end)
        raise Complaint(
            place,
            f"{name!r} cannot be read in one request: {table.value} {hole} is a hole; list "
            "it in readable_gaps if the device answers it, or split the group",
        )


def _check_process(config: DeviceConfig) -> None:
    names = {spec.full_name for _, _, spec in _specs(config)}
    spec = config.process
    if spec is not None:
        for key, name in (("running", spec.running), ("number", spec.number)):
            if name not in names:
                raise Complaint(("process", key), f"{name!r} is not a parameter (component.name)")
        if (scans := Process.scans_of(spec, config.device.plc_scan_s)) > MAX_CYCLE_SCANS:
            raise Complaint(
                ("process",),
                f"one execution takes {scans:,.0f} PLC scans; at most {MAX_CYCLE_SCANS:,} can be laid out",
            )
    steps = Process(spec, config.device.plc_scan_s).step_names
    for place, _, parameter in _specs(config):
        signal = parameter.signal
        used = list(signal.levels) if isinstance(signal, Steps) else []
        used += (signal.during or []) if isinstance(signal, Follow) else []
        for step in used:
            if step not in steps:
                raise Complaint(
                    (*place, "signal"),
                    f"{step!r} is not a step of the recipe; there are {', '.join(steps)}",
                )
