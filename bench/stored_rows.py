"""Reads stored history back as arrays: binary COPY, in order, a transaction at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection

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

_COPY = """
COPY (SELECT scan, parameter_id, recorded_at, coalesce(value, 'NaN'), coalesce(set_value, 'NaN'), quality,
          transaction_id
      FROM parameter_value_history WHERE device_id = {} AND stream_id = {}
      ORDER BY scan, parameter_id) TO STDOUT (FORMAT BINARY)"""
_SIGNATURE_BYTES = 19
_CHUNK_ROWS = 50_000


class LedgerRow(NamedTuple):
    """One transaction as the ledger has it."""

    transaction_id: UUID
    first_scan: int
    last_scan: int
    history_rows: int
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
        "SELECT l.transaction_id, l.first_scan, l.last_scan, l.history_rows, l.process_id,"
        " l.previous_hash, l.hash, g.reason FROM logging_transactions l"
        " LEFT JOIN scan_gaps g USING (transaction_id)"
        " WHERE l.device_id = %s AND l.stream_id = %s ORDER BY l.first_scan, l.logged_at",
        (device_id, stream_id),
    )
    return [LedgerRow(*row) for row in rows]


def history_chunks(connection: Connection[Any], device_id: str, stream_id: int) -> Iterator[Rows]:
    """Rows of a stream by scan and parameter, in chunks that end anywhere."""
    from psycopg import sql

    statement = sql.SQL(_COPY).format(sql.Literal(device_id), sql.Literal(stream_id))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        parts: list[bytes] = [bytes(copy.read())[_SIGNATURE_BYTES:]]
        while data := copy.read():
            parts.append(bytes(data))
            if len(parts) >= _CHUNK_ROWS:
                yield _rows(b"".join(parts))
                parts = []
        yield _rows(b"".join(parts).removesuffix(b"\xff\xff"))


def _rows(data: bytes) -> Rows:
    rows = np.frombuffer(data, dtype=_ROW)
    native = np.empty(len(rows), dtype=[(name, kind.replace(">", "=")) for name, kind in _FIELDS])
    for name, _ in _FIELDS:
        native[name] = rows[name]
    native["recorded_at"] += POSTGRES_EPOCH_US
    return native
