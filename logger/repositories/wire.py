"""numpy arrays -> PostgreSQL's binary array format, without making a Python object a value.

Format (PostgreSQL source, array_send in arrayfuncs.c): number of dimensions, has-null flag, element
type, then length and lower bound of each dimension, all 4 bytes; then each element as its length in
4 bytes and its bytes, high byte first; a NULL is the length -1 and no bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, DataError
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiIii")
_EMPTY = struct.Struct(">iiI")
_LENGTH = struct.Struct(">i")
_INT8 = struct.Struct(">q")
_NULL = _LENGTH.pack(-1)

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970; PostgreSQL counts timestamps from there."""


class PgArray:
    """An array on its way to PostgreSQL; the subclass says the type of its elements."""

    element_oid: ClassVar[int]
    oid: ClassVar[int]
    dtype: ClassVar[np.dtype[Any]]
    """Big-endian type of one element."""

    __slots__ = ("values",)

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def to_binary(self) -> bytes:
        """The array as PostgreSQL reads it; NaN in a float array becomes NULL."""
        size = len(self.values)
        if size == 0:
            return _EMPTY.pack(0, 0, self.element_oid)
        elements = np.empty(size, dtype=[("length", ">i4"), ("value", self.dtype)])
        elements["length"] = self.dtype.itemsize
        elements["value"] = self.values
        missing = np.isnan(self.values) if self.dtype.kind == "f" else None
        if missing is None or not missing.any():
            return _HEADER.pack(1, 0, self.element_oid, size, 1) + elements.tobytes()
        elements["length"][missing] = -1
        kept = np.ones((size, elements.itemsize), dtype=bool)
        kept[missing, 4:] = False
        body = elements.view(np.uint8).reshape(size, elements.itemsize)[kept].tobytes()
        return _HEADER.pack(1, 1, self.element_oid, size, 1) + body


class Float8Array(PgArray):
    element_oid, oid, dtype = 701, 1022, np.dtype(">f8")


class Int8Array(PgArray):
    element_oid, oid, dtype = 20, 1016, np.dtype(">i8")


class Int4Array(PgArray):
    element_oid, oid, dtype = 23, 1007, np.dtype(">i4")


class Int2Array(PgArray):
    element_oid, oid, dtype = 21, 1005, np.dtype(">i2")


class TimestamptzArray(PgArray):
    """From microseconds since 1970, UTC."""

    element_oid, oid, dtype = 1184, 1185, np.dtype(">i8")

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__(values - POSTGRES_EPOCH_US)


class TextArray:
    """Some texts among many NULLs: `texts` are (place, text) in the order of their places."""

    oid = 1009
    _element_oid = 25
    __slots__ = ("size", "texts")

    def __init__(self, size: int, texts: Sequence[tuple[int, str]]) -> None:
        self.size, self.texts = size, texts

    def to_binary(self) -> bytes:
        """The array as PostgreSQL reads it; raises psycopg.DataError for a text that holds a NUL."""
        elements = [_NULL] * self.size
        for place, text in self.texts:
            if "\0" in text:
                raise DataError(f"PostgreSQL stores no text with a NUL in it: {text!r}")
            data = text.encode()
            elements[place] = _LENGTH.pack(len(data)) + data
        has_null = len(self.texts) < self.size
        return _HEADER.pack(1, has_null, self._element_oid, self.size, 1) + b"".join(elements)


class Timestamptz:
    """One moment in microseconds since 1970, UTC."""

    oid = 1184
    __slots__ = ("microseconds",)

    def __init__(self, microseconds: int) -> None:
        self.microseconds = microseconds

    def to_binary(self) -> bytes:
        return _INT8.pack(self.microseconds - POSTGRES_EPOCH_US)


_Ours = type[PgArray] | type[TextArray] | type[Timestamptz]


def _dumper(ours: _Ours) -> type[Dumper]:
    class BinaryDumper(Dumper):
        format = Format.BINARY
        oid = ours.oid

        def dump(self, obj: PgArray | TextArray | Timestamptz) -> Buffer:
            return obj.to_binary()

    return BinaryDumper


def register_arrays(connection: Connection[Any]) -> None:
    """Teach a connection the types of this module."""
    kinds: tuple[_Ours, ...] = (
        *(Float8Array, Int8Array, Int4Array, Int2Array, TimestamptzArray),
        *(TextArray, Timestamptz),
    )
    for kind in kinds:
        connection.adapters.register_dumper(kind, _dumper(kind))
