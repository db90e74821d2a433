"""Parameters -> the fewest requests that read them, and why each ends where it does; pure.

What must come together (a consistent group, or else one parameter) is a unit. Units are taken by
address and joined while one request may read them all and nothing between them is a hole; since
they are ordered by address, taking as much as fits each time gives the fewest requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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
    piece_of: str = ""
    """The consistent group of which this reads a part only: one request cannot read all of it."""
    ends: str = field(default="", compare=False)
    """Why it does not go on."""

    @property
    def end(self) -> int:
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Refused:
    """What a device has turned out not to answer, although its file says that it does."""

    parameters: frozenset[int] = frozenset()
    """parameter_ids."""
    cuts: frozenset[tuple[Table, int]] = frozenset()
    """Addresses before which a request must end."""

    def __or__(self, other: Refused) -> Refused:
        return Refused(self.parameters | other.parameters, self.cuts | other.cuts)

    def is_within(self, other: Refused) -> bool:
        """Whether the other one holds all of this."""
        return self.parameters <= other.parameters and self.cuts <= other.cuts

    def __bool__(self) -> bool:
        return bool(self.parameters or self.cuts)


class Explained(NamedTuple):
    """A request, and in words why it is as it is."""

    block: ReadBlock
    written: str
    """Its table and addresses as the device file writes them."""
    groups: tuple[str, ...]
    starts: str
    ends: str


def plan_reads(config: DeviceConfig, poll: str = "", refused: Refused = Refused()) -> list[ReadBlock]:
    """The requests of one scan of a poll group, in the order in which they are sent."""
    return plan_of(config, config.register_map.logged_in(poll), refused)


def plan_of(config: DeviceConfig, wanted: Sequence[Parameter], refused: Refused) -> list[ReadBlock]:
    """The requests that read these parameters, but for those that the device refuses."""
    blocks: list[ReadBlock] = []
    for table in Table:
        mine = [p for p in wanted if p.table is table and p.parameter_id not in refused.parameters]
        rules = _Rules(config, table, refused)
        units = _units(mine, config.register_map.consistent_groups)
        blocks += rules.joined([unit for unit in units if rules.allows(unit)])
        for unit in units:
            if not rules.allows(unit):  # a group, of which the device refuses something
                pieces = rules.joined([_block([p]) for p in _by_address(unit.parameters)])
                blocks += [_block(list(p.parameters), p.ends, unit.parameters[0].group) for p in pieces]
    return blocks


def explain(config: DeviceConfig, poll: str = "", refused: Refused = Refused()) -> list[Explained]:
    """The plan in words, for the person who wonders why there are so many requests."""
    explained: list[Explained] = []
    before: Table | None = None
    for block in plan_reads(config, poll, refused):
        explained.append(
            Explained(
                block,
                f"{block.table.value} {_span(config, block.table, block.address, block.end)}",
                tuple(dict.fromkeys(p.group for p in block.parameters)),
                "where the one before had to end" if block.table is before else "the first that is polled",
                block.ends,
            )
        )
        before = block.table
    return explained


def left_out(config: DeviceConfig) -> str:
    """Say in one line which parameters are not logged, and why; empty where all are."""
    parameters = config.register_map.parameters
    unreadable = sum(not p.is_logged for p in parameters)
    if not unreadable:
        return ""
    why = f"{unreadable} cannot be read (readable: false)"
    return f"{unreadable} of {len(parameters)} parameters are not logged: {why}"


class _Rules:
    """What one request on a table may read."""

    def __init__(self, config: DeviceConfig, table: Table, refused: Refused) -> None:
        modbus = config.modbus
        self._config, self._table = config, table
        self._limit = "max_coils" if table.is_bits else "max_registers"
        self._most = min(getattr(modbus, self._limit), table.max_read)
        self._max_gap = modbus.max_gap
        self._cuts = sorted(address for where, address in refused.cuts if where is table)
        mine = [p for p in config.register_map.in_table(table) if p.parameter_id in refused.parameters]
        self._runs = _without(config.register_map.readable(table), mine)

    def joined(self, units: Iterable[ReadBlock]) -> list[ReadBlock]:
        """Requests for units ordered by address: each takes as many as it may."""
        blocks: list[ReadBlock] = []
        for unit in units:
            if blocks:
                last = blocks[-1]
                both = _block([*last.parameters, *unit.parameters])
                why = self._why_not(both, unit.address - last.end, _named(self._config, unit))
                if not why:
                    blocks[-1] = both
                    continue
                blocks[-1] = _block(list(last.parameters), why)
            blocks.append(unit)
        if blocks:
            blocks[-1] = _block(list(blocks[-1].parameters), "the last that is polled of its table")
        return blocks

    def allows(self, unit: ReadBlock) -> bool:
        """Whether one request may read what must come together."""
        return not self._why_not(unit, 0, "")

    def _why_not(self, block: ReadBlock, gap: int, following: str) -> str:
        """Why one request cannot read a block; empty if it can."""
        if self._max_gap is not None and gap > self._max_gap:
            return f"{following} is {gap} addresses further on; max_gap is {self._max_gap}"
        if block.count > self._most:
            return f"with {following} it would take {block.count} addresses; {self._limit} is {self._most}"
        for cut in self._cuts:
            if block.address < cut < block.end:
                return f"the device refuses to read on to {self._config.notation.written(cut, self._table)}"
        inside = [run for run in self._runs if run.end > block.address]
        if inside and inside[0].address <= block.address and block.end <= inside[0].end:
            return ""
        start = inside[0].end if inside and inside[0].address <= block.address else block.address
        end = next((run.address for run in inside if run.address > start), block.end)
        return _hole(self._config, self._table, start, end)


def _hole(config: DeviceConfig, table: Table, start: int, end: int) -> str:
    span = _span(config, table, start, end)
    held = [p for p in config.register_map.in_table(table) if p.address < end and start < p.end]
    if not held:
        return f"{span}: a hole, no parameter and not in readable_gaps"
    how = "cannot be read" if not held[0].readable else "is refused by the device"
    return f"{span}: {held[0].full_name} {how}"


def _named(config: DeviceConfig, unit: ReadBlock) -> str:
    first = unit.parameters[0]
    consistent = first.group in config.register_map.consistent_groups
    return f"the group {first.group!r}" if consistent else first.full_name


def _span(config: DeviceConfig, table: Table, start: int, end: int) -> str:
    written = config.notation.written
    return f"{written(start, table)} to {written(end - 1, table)}"


def _units(parameters: Iterable[Parameter], consistent: frozenset[str]) -> list[ReadBlock]:
    units: dict[object, list[Parameter]] = {}
    for parameter in parameters:
        key = parameter.group if parameter.group in consistent else parameter.parameter_id
        units.setdefault(key, []).append(parameter)
    return sorted((_block(_by_address(members)) for members in units.values()), key=lambda unit: unit.address)


def _by_address(parameters: Iterable[Parameter]) -> list[Parameter]:
    return sorted(parameters, key=lambda p: (p.address, p.bit or 0))


def _without(runs: list[AddressRange], refused: list[Parameter]) -> list[AddressRange]:
    """Runs of addresses without those of some parameters."""
    for p in refused:
        parts = [(r, r.address, min(r.end, p.address)) for r in runs]
        parts += [(r, max(r.address, p.end), r.end) for r in runs]
        kept = {(start, end) for _, start, end in parts if start < end}
        runs = [AddressRange(p.table, start, end - start) for start, end in sorted(kept)]
    return runs


def _block(parameters: list[Parameter], ends: str = "", piece_of: str = "") -> ReadBlock:
    start = min(p.address for p in parameters)
    end = max(p.end for p in parameters)
    return ReadBlock(parameters[0].table, start, end - start, tuple(parameters), piece_of, ends)
