"""How a device file writes addresses: from 0, from 1, or as Modicon reference numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plcsim.limits import MAX_ADDRESS
from plcsim.parameters import Table

AddressBase = Literal[0, 1, "reference"]

_DIGIT = {Table.COIL: 0, Table.DISCRETE_INPUT: 1, Table.INPUT_REGISTER: 3, Table.HOLDING_REGISTER: 4}
"""First digit of a table's reference numbers; the coils' 0 cannot be written, as YAML reads it as octal."""


@dataclass(frozen=True, slots=True)
class Notation:
    """Turns written addresses into zero-based ones and back.

    Reference numbers have a digit for the table and count from 1: 40001 to 49999, or, with six digits,
    400001 to 465536. Those of coils are plain numbers from 1 to 9999; five digits are always taken for
    another table's.
    """

    base: AddressBase = 0
    six_digits: bool = False
    """Whether `written` gives reference numbers of six digits."""

    def zero_based(self, written: int, table: Table) -> int:
        """The protocol address. Raises ValueError that says what would be right."""
        if self.base != "reference":
            lowest, highest = self.base, MAX_ADDRESS + self.base
            if not lowest <= written <= highest:
                bound = f"{lowest} or more" if written < lowest else f"{highest} or less"
                raise ValueError(f"{written}: must be {bound}")
            return written - self.base
        for digits, highest in ((10_000, 9999), (100_000, MAX_ADDRESS + 1)):
            first = _DIGIT[table] * digits
            if first < written <= first + highest and (first or digits == 10_000):
                return written - first - 1
        raise ValueError(f"{written} is no {table.value} by its reference number: {_right(table)}")

    def written(self, address: int, table: Table) -> int:
        """A protocol address as the file would write it."""
        if self.base != "reference":
            return address + self.base
        digits = 100_000 if self.six_digits or address >= 9999 else 10_000
        return _DIGIT[table] * digits + address + 1


def _right(table: Table) -> str:
    digit = _DIGIT[table]
    if digit == 0:
        return "1 to 9999; for coils behind that use address_base 0 or 1"
    return f"{digit}0001 to {digit}9999, or {digit}00001 to {digit}65536"
