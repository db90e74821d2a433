"""Registers <-> arrays of values: pure and vectorised, in all four byte orders.

A block is what one request reads: for registers its bytes as they go over the wire (two a register,
high byte first), for coils one byte of 0 or 1 each. The byte order of a parameter is folded into the
positions at which its bytes are looked up, so that decoding is one lookup a data type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plcsim.fields import Bytes, Values, byte_positions, fields_of
from plcsim.parameters import DataType, Parameter, Table

__all__ = ["Bytes", "Codec", "Values", "decode_text", "encode_text"]

_LONG = (DataType.INT64, DataType.UINT64)
_EXACT_TO = 2**53
"""The integers that float64 holds all of: up to here, either sign."""


class Codec:
    """Codes the parameters of one block; made once, used for every scan.

    Values are engineering values, `raw · scale + offset`, float64 of shape (..., n) in the order of
    `parameters`; data is uint8 of shape (..., bytes) as the module says. 64-bit integers are exact up
    to 2^53, which is as far as float64 is. A string has no value: it is NaN, and stays as it is. What
    no float64 can hold is in `texts`.
    """

    def __init__(self, parameters: Sequence[Parameter], table: Table, address: int) -> None:
        if outside := [p for p in parameters if p.table is not table or p.address < address]:
            raise ValueError(f"{outside[0].full_name} is not in {table} from {address}")
        self._size = len(parameters)
        self._scale = np.array([p.scale for p in parameters])
        self._offset = np.array([p.offset for p in parameters])
        self._plain = bool(np.all(self._scale == 1.0) and np.all(self._offset == 0.0))
        self._fields = fields_of(parameters, address)
        texts = [i for i, p in enumerate(parameters) if p.data_type is DataType.STRING]
        self._texts: NDArray[np.intp] = np.array(texts, dtype=np.intp)
        self._strings = [(i, byte_positions(parameters[i], address), parameters[i].length) for i in texts]
        long = [i for i, p in enumerate(parameters) if p.data_type in _LONG and (p.scale, p.offset) == (1, 0)]
        self._long: NDArray[np.intp] = np.array(long, dtype=np.intp)
        self._long_bytes = [(byte_positions(parameters[i], address), parameters[i].data_type) for i in long]

        self.has_texts = bool(texts or long)
        """Whether `texts` may find anything."""

    def decode(self, data: Bytes) -> Values:
        """Values of a block's data; NaN for null values, digits that are none, and strings."""
        raw = np.empty((*data.shape[:-1], self._size))
        with np.errstate(invalid="ignore", over="ignore"):  # a signalling NaN is a NaN
            for field in self._fields:
                raw[..., field.columns] = field.decode(data)
            if len(self._texts):
                raw[..., self._texts] = np.nan
            return raw if self._plain else raw * self._scale + self._offset

    def texts(self, data: Bytes, values: Values) -> list[tuple[int, str]]:
        """What float64 cannot hold of one block's data, by the place of its parameter: each string,
        and the digits of each 64-bit integer beyond 2^53 that is neither scaled nor a null value.

        data has shape (bytes,); `values` is what `decode` gave for it.
        """
        found = [(i, _text(bytes(data[positions]), length)) for i, positions, length in self._strings]
        if len(self._long):
            long = np.flatnonzero(np.abs(values[self._long]) >= _EXACT_TO)
            for place, (positions, data_type) in ((n, self._long_bytes[n]) for n in long):
                signed = data_type is DataType.INT64
                number = int.from_bytes(bytes(data[positions]), "big", signed=signed)
                if abs(number) > _EXACT_TO:
                    found.append((int(self._long[place]), str(number)))
        return found

    def encode(self, values: Values, data: Bytes) -> None:
        """Write values into a block's data in place; what is no parameter's stays as it is.

        Integers are rounded to the nearest and held at the limits of their type (64-bit ones at the
        last float64 within them); NaN becomes the parameter's null value, or 0 in an integer that has
        none.
        """
        with np.errstate(over="ignore"):  # what is too large is infinite, so at the limit of its type
            raw = values if self._plain else (values - self._offset) / self._scale
        for field in self._fields:
            field.encode(raw[..., field.columns], data)


def decode_text(data: bytes, parameter: Parameter) -> str:
    """Text of a string's registers, as on the wire: up to the first NUL, U+FFFD for what is no UTF-8."""
    positions = byte_positions(parameter, parameter.address)
    return _text(bytes(data[position] for position in positions), parameter.length)


def _text(data: bytes, length: int | None) -> str:
    return data[:length].partition(b"\0")[0].decode("utf-8", errors="replace")


def encode_text(text: str, parameter: Parameter) -> bytes:
    """A string's registers, as on the wire. Raises ValueError if the text is longer than its length."""
    coded = text.encode()
    if parameter.length is None or len(coded) > parameter.length:
        raise ValueError(f"{parameter.full_name} has no room for {len(coded)} bytes of text")
    data = bytearray(2 * parameter.width)
    for position, byte in zip(byte_positions(parameter, parameter.address), coded, strict=False):
        data[position] = byte
    return bytes(data)
