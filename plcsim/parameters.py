"""What one value is and where it lives: Parameter, its data type, byte order and table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from plcsim.limits import MAX_READ_BITS, MAX_READ_REGISTERS
from plcsim.signals import Signal


class DataType(StrEnum):
    """How a value is coded. `bool` lives in a coil, a discrete input or one bit of a register, the
    others in registers; uint16 and uint32 also in coils (16 or 32, least significant bit first).

    Values are float64, so 64-bit integers are exact up to 2^53 and rounded beyond. `bcd16` and `bcd32`
    hold 4 and 8 decimal digits, the first in the highest four bits. `string` is UTF-8 text of up to
    `length` bytes and no number: where values are arrays it is NaN.
    """

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"

    @property
    def bits(self) -> int:
        """Of one value; 0 for a string, whose length is its parameter's."""
        if self is DataType.BOOL:
            return 1
        return 0 if self is DataType.STRING else int(self.value[-2:])

    @property
    def is_integer(self) -> bool:
        """Whether any pattern of its bits may be set aside to mean "no value"."""
        return self.value[:3] in ("int", "uin", "bcd")


class ByteOrder(StrEnum):
    """How a value's bytes A B C D, most significant first, lie over its registers.

    64-bit values by analogy: CDAB is GHEFCDAB, BADC is BADCFEHG, DCBA is HGFEDCBA. Of 16-bit values,
    single bits and strings only the two bytes of each register can be swapped (BADC and DCBA).
    """

    ABCD = "ABCD"
    BADC = "BADC"
    CDAB = "CDAB"
    DCBA = "DCBA"

    @property
    def swaps_bytes(self) -> bool:
        """Whether each register has its low byte first."""
        return self in (ByteOrder.BADC, ByteOrder.DCBA)

    @property
    def swaps_registers(self) -> bool:
        """Whether the least significant register comes first."""
        return self in (ByteOrder.CDAB, ByteOrder.DCBA)


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
    null_value: int | None = None
    """The bits, read as an integer, that mean "no value": NaN is coded so, and they decode to NaN."""
    length: int | None = None
    """Bytes that a string may have, at most."""
    bit: int | None = None
    """Of a bool in a register: which, 0 the least significant."""
    unit: str = ""
    writable: bool = False
    readable: bool = True
    """False: a client may write it only; reading it is exception 02."""
    limits: tuple[float, float] | None = None
    setpoint: int | None = None
    """parameter_id of the parameter that holds this one's set value."""
    group: str = ""
    """Parameters of one group are read in one request, so that they come from one PLC scan."""
    poll: str = ""
    """The poll group that the logger reads it in; empty: the device's own interval."""
    signal: Signal | None = None
    """How the emulator makes the value; None where only a real PLC knows."""

    @property
    def full_name(self) -> str:
        return f"{self.component}.{self.name}"

    @property
    def width(self) -> int:
        """Addresses that the value takes: registers, or coils."""
        if self.table.is_bits:
            return self.data_type.bits
        bits = self.data_type.bits if self.length is None else 8 * self.length
        return max(1, -(-bits // 16))

    @property
    def end(self) -> int:
        """First address behind the value."""
        return self.address + self.width

    @property
    def is_logged(self) -> bool:
        """Whether a logger polls it: it can be read."""
        return self.readable


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
    """Addresses without a parameter that the device answers all the same."""
    consistent_groups: frozenset[str] = field(default_factory=frozenset)
    junk_gaps: tuple[AddressRange, ...] = ()
    """Those of the gaps that the emulator answers with junk; the others it answers with zeros."""

    def in_table(self, table: Table) -> list[Parameter]:
        """Parameters of one table by address, those of one register by bit."""
        return sorted((p for p in self.parameters if p.table is table), key=lambda p: (p.address, p.bit or 0))

    @property
    def logged(self) -> tuple[Parameter, ...]:
        """The parameters that a logger polls, ordered by parameter_id."""
        return tuple(p for p in self.parameters if p.is_logged)

    def logged_in(self, poll: str) -> tuple[Parameter, ...]:
        """Those of them that are read in one poll group."""
        return tuple(p for p in self.logged if p.poll == poll)

    def readable(self, table: Table) -> list[AddressRange]:
        """The maximal runs of addresses of a table that a read may touch, in order."""
        taken: Iterable[AddressRange] = [
            AddressRange(table, p.address, p.width) for p in self.in_table(table) if p.readable
        ]
        gaps = [gap for gap in self.readable_gaps if gap.table is table]
        return _joined(sorted([*taken, *gaps], key=lambda r: r.address))

    def index_of(self, parameter_id: int) -> int:
        """Position of a parameter in `parameters` (and in every array of values of the device)."""
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
