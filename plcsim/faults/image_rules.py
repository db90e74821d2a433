"""Faults of what a read shows: the registers themselves stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import Field

from plcsim.faults.selection import OnRead
from plcsim.memory import TableImage
from plcsim.missing_values import MissingValues
from plcsim.parameters import Table

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
    missing: Callable[[Table], MissingValues]
    """How a table shows that its parameters have no value."""
    dice: Random


class ImageRule(OnRead):
    """A fault that changes what a request that it hits reads."""

    def spoil(self, data: bytearray, sight: Sight) -> None:
        """Change what is read (data of `sight.read`, as in TableImage) if there is anything in sight to
        change."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


class Frozen(ImageRule):
    """Values stay as they were when the fault hit for the first time."""

    kind: Literal["frozen"]

    def spoil(self, data: bytearray, sight: Sight) -> None:
        _copy(sight.frozen, data, sight, sight.first, sight.end)


class BitFlips(ImageRule):
    """Bits of what is read are the opposite; which ones is drawn anew for each request."""

    kind: Literal["bit_flips"]
    bits: int = Field(default=1, ge=1, le=2000)

    def spoil(self, data: bytearray, sight: Sight) -> None:
        per_address = 1 if sight.table.is_bits else 16
        places = (sight.end - sight.first) * per_address
        before = sight.first - sight.read[0]
        for place in sight.dice.sample(range(places), min(self.bits, places)):
            address, bit = divmod(place, per_address)
            if sight.table.is_bits:
                data[before + address] ^= 1
            else:
                data[2 * (before + address) + bit // 8] ^= 1 << bit % 8


class NotANumber(ImageRule):
    """Parameters that lie whole in what is read show NaN (floats) or their null value (integers)."""

    kind: Literal["nan"]

    def spoil(self, data: bytearray, sight: Sight) -> None:
        sight.missing(sight.table).put(data, sight.read[0], sight.first, sight.end)


class Torn(ImageRule):
    """The first half of what is read is one PLC scan older than the second, so that a value of several
    registers in the middle can be one that never was. It changes only reads of two addresses or more."""

    kind: Literal["torn"]
    at: int | None = Field(default=None, ge=1, le=1999)
    """So many addresses are older; half of them where it is not given."""

    def spoil(self, data: bytearray, sight: Sight) -> None:
        start, end = sight.read
        middle = start + ((end - start) // 2 if self.at is None else min(self.at, end - start - 1))
        _copy(sight.previous, data, sight, start, middle)


def _copy(source: Images, data: bytearray, sight: Sight, first: int, end: int) -> None:
    image = source[sight.table]
    width, address = image.bytes_per_address, sight.read[0]
    data[(first - address) * width : (end - address) * width] = image.data[first * width : end * width]
