"""Faults of what a read shows: the registers themselves stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from pydantic import Field

from plcsim.codec import Codec
from plcsim.faults.selection import OnRead
from plcsim.memory import TableImage
from plcsim.parameters import DataType, Parameter, Table

Images = Mapping[Table, TableImage]


@dataclass(frozen=True, slots=True)
class Sight:
    """What a read that is hit looks at."""

    table: Table
    first: int
    end: int
    """The addresses that are both asked for and meant by the fault: `first` to `end` exclusive."""
    read: tuple[int, int]
    """The addresses that are asked for, first and end."""
    previous: Images
    """The image of the PLC scan before."""
    frozen: Images
    """The image when the fault hit for the first time."""
    parameters: Sequence[Parameter]
    """Of the table, by address."""
    dice: Random


class ImageRule(OnRead):
    """A fault that changes what a request that it hits reads."""

    def spoil(self, data: bytearray, sight: Sight) -> None:
        """Change the table's data (as in TableImage) if there is anything in sight to change."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


class Frozen(ImageRule):
    """Values stay as they were when the fault hit for the first time."""

    kind: Literal["frozen"]

    def spoil(self, data: bytearray, sight: Sight) -> None:
        _copy(sight.frozen, data, sight.table, sight.first, sight.end)


class BitFlips(ImageRule):
    """Bits of what is read are the opposite; which ones is drawn anew for each request."""

    kind: Literal["bit_flips"]
    bits: int = Field(default=1, ge=1, le=2000)

    def spoil(self, data: bytearray, sight: Sight) -> None:
        per_address = 1 if sight.table.is_bits else 16
        places = (sight.end - sight.first) * per_address
        for place in sight.dice.sample(range(places), min(self.bits, places)):
            address, bit = divmod(place, per_address)
            if sight.table.is_bits:
                data[sight.first + address] ^= 1
            else:
                data[2 * (sight.first + address) + bit // 8] ^= 1 << bit % 8


class NotANumber(ImageRule):
    """Parameters that lie whole in what is read show NaN (floats) or their null value (integers)."""

    kind: Literal["nan"]

    def spoil(self, data: bytearray, sight: Sight) -> None:
        hit = [
            p for p in sight.parameters if sight.first <= p.address and p.end <= sight.end and _can_be_nan(p)
        ]
        if hit:
            registers = np.frombuffer(data, dtype=np.uint8)  # a view: it writes into the data
            Codec(hit, sight.table, 0).encode(np.full(len(hit), np.nan), registers)


class Torn(ImageRule):
    """The first half of what is read is one PLC scan older than the second, so that a value of several
    registers in the middle can be one that never was. It changes only reads of two addresses or more."""

    kind: Literal["torn"]
    at: int | None = Field(default=None, ge=1, le=1999)
    """So many addresses are older; half of them where it is not given."""

    def spoil(self, data: bytearray, sight: Sight) -> None:
        start, end = sight.read
        middle = start + ((end - start) // 2 if self.at is None else min(self.at, end - start - 1))
        _copy(sight.previous, data, sight.table, start, middle)


def _can_be_nan(parameter: Parameter) -> bool:
    return parameter.data_type in (DataType.FLOAT32, DataType.FLOAT64) or parameter.null_value is not None


def _copy(source: Images, data: bytearray, table: Table, first: int, end: int) -> None:
    image = source[table]
    width = image.bytes_per_address
    data[first * width : end * width] = image.data[first * width : end * width]
