"""Parameters -> the fewest requests that read them; pure.

What must come together (a consistent group, or else one parameter) is a unit. Units are taken by
address and joined while one request may read them all and nothing between them is a hole; since
they are ordered by address, taking as much as fits each time gives the fewest requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from plcsim.config import DeviceConfig
from plcsim.parameters import AddressRange, Parameter, Table


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One request, and the parameters that its reply holds."""

    table: Table
    address: int
    count: int
    """Registers, or coils."""
    parameters: tuple[Parameter, ...]

    @property
    def end(self) -> int:
        return self.address + self.count


def plan_reads(config: DeviceConfig) -> list[ReadBlock]:
    """The requests of one scan, in the order in which they are sent; only for what is logged."""
    register_map = config.register_map
    blocks: list[ReadBlock] = []
    for table in Table:
        most = config.modbus.max_coils if table.is_bits else config.modbus.max_registers
        runs = register_map.readable(table)
        logged = [p for p in register_map.in_table(table) if p.is_logged]
        units = _units(logged, register_map.consistent_groups)
        blocks += _joined(units, min(most, table.max_read), runs)
    return blocks


def left_out(config: DeviceConfig) -> str:
    """Say in one line which parameters are not logged, and why; empty where all are."""
    parameters = config.register_map.parameters
    unreadable = sum(not p.readable for p in parameters)
    texts = sum(p.readable and not p.is_logged for p in parameters)
    reasons = [(unreadable, "cannot be read (readable: false)"), (texts, "are strings")]
    counted = ", ".join(f"{count} {reason}" for count, reason in reasons if count)
    return (
        f"{unreadable + texts} of {len(parameters)} parameters are not logged: {counted}" if counted else ""
    )


def _units(parameters: Iterable[Parameter], consistent: frozenset[str]) -> list[ReadBlock]:
    units: dict[object, list[Parameter]] = {}
    for parameter in parameters:
        key = parameter.group if parameter.group in consistent else parameter.parameter_id
        units.setdefault(key, []).append(parameter)
    return sorted((_block(members) for members in units.values()), key=lambda unit: unit.address)


def _joined(units: list[ReadBlock], most: int, runs: list[AddressRange]) -> list[ReadBlock]:
    blocks: list[ReadBlock] = []
    for unit in units:
        if blocks:
            last = blocks[-1]
            both = _block([*last.parameters, *unit.parameters])
            if both.count <= most and _no_hole(both, runs):
                blocks[-1] = both
                continue
        blocks.append(unit)
    return blocks


def _no_hole(block: ReadBlock, runs: list[AddressRange]) -> bool:
    return any(run.address <= block.address and block.end <= run.end for run in runs)


def _block(parameters: list[Parameter]) -> ReadBlock:
    start = min(p.address for p in parameters)
    end = max(p.end for p in parameters)
    return ReadBlock(parameters[0].table, start, end - start, tuple(parameters))
