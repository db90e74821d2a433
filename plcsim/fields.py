"""How the values of one kind of data type lie in a block: one vectorised lookup for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from plcsim.parameters import DataType, Parameter

Values = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Placed = Sequence[tuple[int, Parameter]]
"""Parameters of one kind, each with its column in the array of values."""

_WIRE_DTYPE: dict[DataType, np.dtype[Any]] = {
    DataType.INT16: np.dtype(">i2"),
    DataType.UINT16: np.dtype(">u2"),
    DataType.INT32: np.dtype(">i4"),
    DataType.UINT32: np.dtype(">u4"),
    DataType.INT64: np.dtype(">i8"),
    DataType.UINT64: np.dtype(">u8"),
    DataType.FLOAT32: np.dtype(">f4"),
    DataType.FLOAT64: np.dtype(">f8"),
    DataType.BCD16: np.dtype(">u2"),
    DataType.BCD32: np.dtype(">u4"),
}


class Field(Protocol):
    """All parameters of one kind in a block."""

    columns: NDArray[np.intp]
    """Where their values stand in the array of values, shape (n,)."""

    def decode(self, data: Bytes) -> NDArray[Any]:
        """Their raw values, shape (..., n) and of any number type, of data of shape (..., bytes)."""

    def encode(self, raw: Values, data: Bytes) -> None:
        """Write raw values of shape (..., n) into a block's data in place."""


def fields_of(parameters: Sequence[Parameter], address: int) -> list[Field]:
    """The fields of a block from `address` on; strings are in none of them."""
    fields: list[Field] = []
    for data_type in DataType:
        placed = [(i, p) for i, p in enumerate(parameters) if p.data_type is data_type]
        if placed and data_type is not DataType.STRING:
            fields.append(_kind_of(placed[0][1])(placed, address))
    return fields


def byte_positions(parameter: Parameter, address: int) -> list[int]:
    """Where a value's bytes, most significant first, lie in the data of a block from `address` on."""
    order = parameter.byte_order
    reverse = order.swaps_registers and parameter.data_type is not DataType.STRING
    positions: list[int] = []
    for register in range(parameter.address - address, parameter.end - address):
        at = 2 * register
        pair = (at + 1, at) if order.swaps_bytes else (at, at + 1)
        positions = [*pair, *positions] if reverse else [*positions, *pair]
    return positions


def _kind_of(parameter: Parameter) -> Callable[[Placed, int], Field]:
    if parameter.table.is_bits:
        return CoilField
    if parameter.data_type is DataType.BOOL:
        return BitField
    if parameter.data_type in (DataType.BCD16, DataType.BCD32):
        return BcdField
    return NumberField


class CoilField:
    """Bools and unsigned integers in coils: a byte of 0 or 1 each, least significant first."""

    def __init__(self, placed: Placed, address: int) -> None:
        self.columns = _columns(placed)
        self._positions = np.array([range(p.address - address, p.end - address) for _, p in placed])
        bits = self._positions.shape[1]
        self._shifts = np.arange(bits, dtype=np.uint64)
        self._weights: Values = np.asarray(2.0 ** np.arange(bits), dtype=np.float64)

    def decode(self, data: Bytes) -> Values:
        return np.asarray(data.take(self._positions, axis=-1) @ self._weights)

    def encode(self, raw: Values, data: Bytes) -> None:
        whole = _whole(raw, 0, 2 ** len(self._shifts) - 1).astype(np.uint64)
        data[..., self._positions] = (whole[..., None] >> self._shifts) & np.uint64(1)


class BitField:
    """Bools that are one bit of a register; the other bits of the register stay as they are."""

    def __init__(self, placed: Placed, address: int) -> None:
        self.columns = _columns(placed)
        bits = [p.bit or 0 for _, p in placed]
        high = [bit >= 8 for bit in bits]
        pairs = [byte_positions(p, address) for _, p in placed]
        self._positions = np.where(high, *np.array(pairs, dtype=np.intp).T)
        self._shifts = np.array([bit % 8 for bit in bits], dtype=np.uint8)
        self._by_shift = [
            (np.flatnonzero(self._shifts == shift), shift) for shift in sorted({bit % 8 for bit in bits})
        ]
        """Places of the parameters of one shift: no two of them lie in the same byte."""

    def decode(self, data: Bytes) -> Values:
        bits = data.take(self._positions, axis=-1) >> self._shifts & np.uint8(1)
        return bits.astype(np.float64)

    def encode(self, raw: Values, data: Bytes) -> None:
        on = _whole(raw, 0, 1).astype(np.uint8)
        for mine, shift in self._by_shift:
            positions = self._positions[mine]
            others = data[..., positions] & ~np.uint8(1 << shift)
            data[..., positions] = others | on[..., mine] << np.uint8(shift)


class NumberField:
    """Integers and floats, as numpy knows them."""

    def __init__(self, placed: Placed, address: int) -> None:
        self.columns = _columns(placed)
        self._positions = np.array([byte_positions(p, address) for _, p in placed], dtype=np.intp)
        self._dtype = _WIRE_DTYPE[placed[0][1].data_type]
        parameters = [p for _, p in placed]
        some = any(p.null_value is not None for p in parameters)
        self._nulls = _Nulls(parameters, self._dtype) if some else None

    def decode(self, data: Bytes) -> NDArray[Any]:
        wire = data.take(self._positions, axis=-1).view(self._dtype)[..., 0]
        numbers = self._numbers(wire)
        return np.where(self._nulls.in_(wire), np.nan, numbers) if self._nulls else numbers

    def encode(self, raw: Values, data: Bytes) -> None:
        wire = self._wire(raw)
        if self._nulls:
            self._nulls.put(wire, np.isnan(raw))
        data[..., self._positions] = wire[..., None].view(np.uint8)

    def _numbers(self, wire: NDArray[Any]) -> NDArray[Any]:
        return wire

    def _wire(self, raw: Values) -> NDArray[Any]:
        if self._dtype.kind == "f":
            with np.errstate(over="ignore"):
                return raw.astype(self._dtype)
        info = np.iinfo(self._dtype)
        return _whole(raw, info.min, _highest(info.max)).astype(self._dtype)


class BcdField(NumberField):
    """Binary-coded decimals: four bits a digit; a digit above 9 makes the value NaN."""

    def __init__(self, placed: Placed, address: int) -> None:
        super().__init__(placed, address)
        digits = np.arange(self._dtype.itemsize * 2, dtype=np.uint32)
        self._shifts = np.uint32(4) * digits
        self._powers = np.uint32(10) ** digits

    def _numbers(self, wire: NDArray[Any]) -> Values:
        digits = wire.astype(np.uint32)[..., None] >> self._shifts & np.uint32(15)
        return np.where((digits > 9).any(axis=-1), np.nan, digits @ self._powers.astype(np.float64))

    def _wire(self, raw: Values) -> NDArray[Any]:
        whole = _whole(raw, 0, 10 ** len(self._powers) - 1).astype(np.uint32)
        digits = whole[..., None] // self._powers % np.uint32(10)
        return np.asarray((digits << self._shifts).sum(axis=-1, dtype=np.uint32).astype(self._dtype))


class _Nulls:
    """The bits that mean "no value", for those parameters of a field that have such bits."""

    def __init__(self, parameters: Sequence[Parameter], dtype: np.dtype[Any]) -> None:
        all_ones = 2 ** (8 * dtype.itemsize) - 1
        bits = [(p.null_value or 0) & all_ones for p in parameters]
        self._bits = np.array(bits, dtype=f">u{dtype.itemsize}").view(dtype)
        self._has = np.array([p.null_value is not None for p in parameters])

    def in_(self, wire: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray((wire == self._bits) & self._has)

    def put(self, wire: NDArray[Any], missing: NDArray[np.bool_]) -> None:
        np.copyto(wire, self._bits, where=missing & self._has)


def _columns(placed: Placed) -> NDArray[np.intp]:
    return np.array([i for i, _ in placed], dtype=np.intp)


def _highest(limit: int) -> float:
    """The largest float64 that is not above a limit: 2^63 - 1 itself would become 2^63."""
    return float(limit) if float(limit) <= limit else float(np.nextafter(float(limit), 0.0))


def _whole(values: Values, low: float, high: float) -> Values:
    whole = np.rint(values)
    np.maximum(whole, low, out=whole)
    np.minimum(whole, high, out=whole)
    whole[np.isnan(whole)] = 0.0
    return whole
