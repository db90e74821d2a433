"""Registers <-> arrays of values: pure and vectorised, in all four byte orders.

A block is what one request reads: for registers its bytes as they go over the wire (two a register,
high byte first), for coils one byte of 0 or 1 each. The byte order of a parameter is folded into the
positions at which its bytes are looked up, so that decoding is one lookup a data type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plcsim.parameters import ByteOrder, DataType, Parameter, Table

Values = NDArray[np.float64]
Bytes = NDArray[np.uint8]

_WIRE_DTYPE: dict[DataType, np.dtype[Any]] = {
    DataType.INT16: np.dtype(">i2"),
    DataType.UINT16: np.dtype(">u2"),
    DataType.INT32: np.dtype(">i4"),
    DataType.UINT32: np.dtype(">u4"),
    DataType.FLOAT32: np.dtype(">f4"),
}

_POSITIONS = {
    ByteOrder.ABCD: (0, 1, 2, 3),
    ByteOrder.BADC: (1, 0, 3, 2),
    ByteOrder.CDAB: (2, 3, 0, 1),
    ByteOrder.DCBA: (3, 2, 1, 0),
}
"""Where bytes A, B, C, D of a 32-bit value lie among the four bytes of its two registers."""

_SWAPPED_REGISTER = (ByteOrder.BADC, ByteOrder.DCBA)


class _Field(NamedTuple):
    """All parameters of one data type in a block."""

    data_type: DataType
    columns: NDArray[np.intp]
    """Where their values stand in the array of values, shape (n,)."""
    positions: NDArray[np.intp]
    """Where the bytes (or coils) of each stand in the block, shape (n, bytes a value)."""


class Codec:
    """Codes the parameters of one block; made once, used for every scan.

    Values are engineering values, `raw · scale + offset`, float64 of shape (..., n) in the order of
    `parameters`; data is uint8 of shape (..., bytes) as the module says.
    """

    def __init__(self, parameters: Sequence[Parameter], table: Table, address: int) -> None:
        if outside := [p for p in parameters if p.table is not table or p.address < address]:
            raise ValueError(f"{outside[0].full_name} is not in {table} from {address}")
        self._size = len(parameters)
        self._bits = table.is_bits
        self._scale = np.array([p.scale for p in parameters])
        self._offset = np.array([p.offset for p in parameters])
        self._plain = bool(np.all(self._scale == 1.0) and np.all(self._offset == 0.0))
        self._fields = [
            _field(data_type, parameters, address)
            for data_type in DataType
            if any(p.data_type is data_type for p in parameters)
        ]

    def decode(self, data: Bytes) -> Values:
        """Values of a block's data."""
        raw = np.empty((*data.shape[:-1], self._size))
        for data_type, columns, positions in self._fields:
            picked = np.take(data, positions, axis=-1)
            if self._bits:
                raw[..., columns] = picked @ _weights(positions.shape[1])
            else:
                with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
                    raw[..., columns] = picked.view(_WIRE_DTYPE[data_type])[..., 0]
        return raw if self._plain else raw * self._scale + self._offset

    def encode(self, values: Values, data: Bytes) -> None:
        """Write values into a block's data in place.

        Integers are rounded to the nearest and held at the limits of their type; NaN becomes 0 in
        an integer, which has no other way to say it.
        """
        raw = values if self._plain else (values - self._offset) / self._scale
        for data_type, columns, positions in self._fields:
            picked = raw[..., columns]
            if self._bits:
                whole = _whole(picked, 0, 2 ** positions.shape[1] - 1).astype(np.uint64)
                shifts = np.arange(positions.shape[1], dtype=np.uint64)
                data[..., positions] = (whole[..., None] >> shifts) & np.uint64(1)
            else:
                wire = _to_wire(picked, _WIRE_DTYPE[data_type])
                data[..., positions] = wire[..., None].view(np.uint8)


def _field(data_type: DataType, parameters: Sequence[Parameter], address: int) -> _Field:
    chosen = [(i, p) for i, p in enumerate(parameters) if p.data_type is data_type]
    return _Field(
        data_type,
        np.array([i for i, _ in chosen], dtype=np.intp),
        np.array([_positions(p, p.address - address) for _, p in chosen], dtype=np.intp),
    )


def _positions(parameter: Parameter, start: int) -> list[int]:
    if parameter.table.is_bits:
        return [start + bit for bit in range(parameter.width)]
    order: tuple[int, ...]
    if parameter.width == 1:
        order = (1, 0) if parameter.byte_order in _SWAPPED_REGISTER else (0, 1)
    else:
        order = _POSITIONS[parameter.byte_order]
    return [2 * start + position for position in order]


def _weights(bits: int) -> Values:
    return np.asarray(2.0 ** np.arange(bits), dtype=np.float64)


def _whole(values: Values, low: float, high: float) -> Values:
    return np.asarray(np.clip(np.rint(np.nan_to_num(values, nan=0.0)), low, high))


def _to_wire(values: Values, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    info = np.iinfo(dtype)
    return _whole(values, info.min, info.max).astype(dtype)
