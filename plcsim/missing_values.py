"""How a table shows that its parameters have no value."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from plcsim.codec import Codec
from plcsim.parameters import DataType, Parameter, Table


class MissingValues:
    """The parameters of one table that can be without a value, all of them so: floats that are NaN,
    numbers that are their null value. `parameters` are all of the table, by address; `size` is that of
    its image in bytes."""

    def __init__(self, parameters: Sequence[Parameter], table: Table, size: int) -> None:
        able = [p for p in parameters if _can_be_nan(p)]
        data = np.zeros(size, dtype=np.uint8)
        Codec(able, table, 0).encode(np.full(len(able), np.nan), data)
        self._data = data.tobytes()
        self._width = 1 if table.is_bits else 2
        self._starts = [p.address for p in able]
        self._ends = [p.end for p in able]

    def put(self, data: bytearray, address: int, first: int, end: int) -> None:
        """Show it in data that begins at an address (as in TableImage), for the parameters that lie whole
        within `first` to `end` exclusive."""
        width = self._width
        for i in range(bisect_left(self._starts, first), bisect_right(self._ends, end)):
            start, stop = width * self._starts[i], width * self._ends[i]
            data[start - width * address : stop - width * address] = self._data[start:stop]


def _can_be_nan(parameter: Parameter) -> bool:
    return parameter.data_type in (DataType.FLOAT32, DataType.FLOAT64) or parameter.null_value is not None
