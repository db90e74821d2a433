"""Reads stored history back as arrays: binary COPY, in order, a transaction at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, sql

from logger.repositories.wire import POSTGRES_EPOCH_US

_FIELDS = [
    ("scan", ">i8"),
    ("parameter_id", ">i4"),
    ("recorded_at", ">i8"),
    ("value", ">f8"),
    ("set_value", ">f8"),
    ("quality", ">i2"),
    ("transaction_id", "V16"),
]
_ROW = np.dtype(
    [("fields", ">i2")]
    + [part for name, kind in _FIELDS for part in ((f"{name}_bytes", ">i4"), (name, kind))]
)
"""A row of binary COPY (PostgreSQL documentation, COPY, binary format): no column is NULL."""

# NULL is read as NaN. The logger never stores a NaN itself nor an infinity; should one be there all
# the same, infinity tells it from NULL.
_COPY = """
COPY (SELECT scan, parameter_id, recorded_at,
          CASE WHEN value IS NULL THEN 'NaN' WHEN value = 'NaN' THEN 'Infinity' ELSE value END,
          CASE WHEN set_value IS NULL THEN 'NaN' WHEN set_value = 'NaN' THEN 'Infinity' ELSE set_value END,
          quality, transaction_id
      FROM parameter_value_history WHERE device_id = {} AND stream_id = {}
      ORDER BY scan, parameter_id) TO STDOUT (FORMAT BINARY)"""
_SIGNATURE_BYTES = 19
_END = b"\xff\xff"
CHUNK_ROWS = 50_000


class LedgerRow(NamedTuple):
    """One transaction as the ledger has it."""

    transaction_id: UUID
    first_scan: int
    last_scan: int
    process_id: UUID | None
    previous_hash: bytes
    hash: bytes
    gap_reason: str | None
    """None where it stored scans."""


Rows = NDArray[np.void]
"""Structured array with the fields of `_FIELDS`; recorded_at in microseconds since 1970."""


def ledger_of(connection: Connection[Any], device_id: str, stream_id: int) -> list[LedgerRow]:
    """All transactions of a stream by scan."""
    rows = connection.execute(
        "SELECT l.transaction_id, l.first_scan, l.last_scan, l.process_id, l.previous_hash, l.hash, g.reason"
        " FROM logging_transactions l LEFT JOIN scan_gaps g USING (transaction_id)"
        " WHERE l.device_id = %s AND l.stream_id = %s ORDER BY l.first_scan, l.logged_at",
        (device_id, stream_id),
    )
    return [LedgerRow(*row) for row in rows]


def executions_of(connection: Connection[Any], device_id: str, stream_id: int) -> dict[UUID, tuple[int, str]]:
    """The PLC's number and the recipe of each process that a stream recorded."""
    rows = connection.execute(
        "SELECT process_id, plc_number, recipe FROM process_executions"
        " WHERE device_id = %s AND stream_id = %s",
        (device_id, stream_id),
    )
    return {process_id: (number, recipe) for process_id, number, recipe in rows}


def history_chunks(
    connection: Connection[Any], device_id: str, stream_id: int, chunk_rows: int = CHUNK_ROWS
) -> Iterator[Rows]:
    """Rows of a stream by scan and parameter, in chunks that end anywhere; one at least."""
    statement = sql.SQL(_COPY).format(sql.Literal(device_id), sql.Literal(stream_id))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        parts: list[bytes] = [bytes(copy.read())[_SIGNATURE_BYTES:]]
        while data := copy.read():  # one row each, and the end mark
            if len(parts) >= chunk_rows:
                yield _rows(b"".join(parts))
                parts = []
            parts.append(bytes(data))
        yield _rows(b"".join(parts).removesuffix(_END))


class RowReader:
    """Hands out rows up to a scan, from chunks that end anywhere."""

    def __init__(self, chunks: Iterator[Rows]) -> None:
        self._chunks = chunks
        self._rows = next(chunks)
        self._position = 0
        self.read = len(self._rows)

    def up_to(self, scan: int) -> Rows:
        while not len(self._rows) or self._rows["scan"][-1] <= scan:
            more = next(self._chunks, None)
            if more is None:
                break
            self.read += len(more)
            self._rows = np.concatenate([self._rows[self._position :], more])
            self._position = 0
        end = int(np.searchsorted(self._rows["scan"], scan, side="right"))
        rows = self._rows[self._position : end]
        self._position = max(end, self._position)
        return rows

    def scans_left(self) -> int:
        """How many scans are behind what was handed out."""
        left = set(self._rows["scan"][self._position :].tolist())
        for more in self._chunks:
            self.read += len(more)
            left.update(more["scan"].tolist())
        return len(left)


def _rows(data: bytes) -> Rows:
    rows = np.frombuffer(data, dtype=_ROW)
    native = np.empty(len(rows), dtype=[(name, kind.replace(">", "=")) for name, kind in _FIELDS])
    for name, _ in _FIELDS:
        native[name] = rows[name]
    native["recorded_at"] += POSTGRES_EPOCH_US
    return native
