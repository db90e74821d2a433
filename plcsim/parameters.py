"""What one value is and where it lives: Parameter, its data type, byte order and table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from plcsim.limits import MAX_READ_BITS, MAX_READ_REGISTERS
from plcsim.signals import Signal


class DataType(StrEnum):
    """How a value is coded. `bool` lives in one coil or discrete input; the others in registers,
    the unsigned integers also in coils (16 or 32 of them, least significant bit first)."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    FLOAT32 = "float32"

    @property
    def bits(self) -> int:
        return 1 if self is DataType.BOOL else int(self.value.lstrip("uintfloa"))


class ByteOrder(StrEnum):
    """How a value's bytes A B C D, most significant first, lie over its registers.

    Of 16-bit values only the two bytes of the register can be swapped (BADC and DCBA).
    """

    ABCD = "ABCD"
    BADC = "BADC"
    CDAB = "CDAB"
    DCBA = "DCBA"


class Table(StrEnum):
    """The four Modbus tables."""

    COIL = "coil"
    DISCRETE_INPUT = "discrete_input"
    HOLDING_REGISTER = "holding_register"
    INPUT_REGISTER = "input_register"

    @property
    def is_bits(self) -> bool:
        return self in (Table.COIL, Table.DISCRETE_INPUT)

    @property
    def is_writable(self) -> bool:
        return self in (Table.COIL, Table.HOLDING_REGISTER)

    @property
    def max_read(self) -> int:
        """Most addresses that one request may read."""
        return MAX_READ_BITS if self.is_bits else MAX_READ_REGISTERS


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named value (a tag) of a device."""

    parameter_id: int
    component: str
    name: str
    table: Table
    address: int
    """Zero-based protocol address of its first register or coil."""
    data_type: DataType
    byte_order: ByteOrder = ByteOrder.ABCD
    scale: float = 1.0
    offset: float = 0.0
    """value = raw · scale + offset"""
    unit: str = ""
    writable: bool = False
    limits: tuple[float, float] | None = None
    setpoint: int | None = None
    """parameter_id of the parameter that holds this one's set value."""
    group: str = ""
    """Parameters of one group are read in one request, so that they come from one PLC scan."""
    signal: Signal | None = None
    """How the emulator makes the value; None where only a real PLC knows."""

    @property
    def full_name(self) -> str:
        return f"{self.component}.{self.name}"

    @property
    def width(self) -> int:
        """Addresses that the value takes: registers, or coils."""
        return self.data_type.bits if self.table.is_bits else max(1, self.data_type.bits // 16)

    @property
    def end(self) -> int:
        """First address behind the value."""
        return self.address + self.width


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses of one table, `address` to `end` exclusive."""

    table: Table
    address: int
    count: int

    @property
    def end(self) -> int:
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class RegisterMap:
    """All parameters of a device, ordered by parameter_id, and what may be read between them."""

    parameters: tuple[Parameter, ...]
    readable_gaps: tuple[AddressRange, ...] = ()
    """Addresses without a parameter that the device answers all the same (with zeros)."""
    consistent_groups: frozenset[str] = field(default_factory=frozenset)

    def in_table(self, table: Table) -> list[Parameter]:
        """Parameters of one table by address."""
        return sorted((p for p in self.parameters if p.table is table), key=lambda p: p.address)

    def readable(self, table: Table) -> list[AddressRange]:
        """The maximal runs of addresses of a table that a request may touch, in order."""
        taken: Iterable[AddressRange] = [
            AddressRange(table, p.address, p.width) for p in self.in_table(table)
        ]
        gaps = [gap for gap in self.readable_gaps if gap.table is table]
        return _joined(sorted([*taken, *gaps], key=lambda r: r.address))

    def index_of(self, parameter_id: int) -> int:
        """Position of a parameter in `parameters` (and in every array of values)."""
        return [p.parameter_id for p in self.parameters].index(parameter_id)


def _joined(ranges: Sequence[AddressRange]) -> list[AddressRange]:
    joined: list[AddressRange] = []
    for new in ranges:
        if joined and new.address <= joined[-1].end:
            last = joined.pop()
            end = max(last.end, new.end)
            joined.append(AddressRange(last.table, last.address, end - last.address))
        else:
            joined.append(new)
    return joined
