"""Reads stored history back as arrays: binary COPY, in order, a transaction at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection, sql

from logger.repositories.wire import POSTGRES_EPOCH_US
from logger.scan import Gap

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
    + [("text_bytes", ">i4")]
)
"""A row of binary COPY (PostgreSQL documentation, COPY, binary format), up to its text: that alone may
be NULL, which the length -1 says."""
_NATIVE = np.dtype(
    [(name, kind.replace(">", "=")) for name, kind in _FIELDS] + [("text_bytes", "=i4"), ("text", "O")]
)

# NULL is read as NaN. The logger never stores a NaN itself nor an infinity; should one be there all
# the same, infinity tells it from NULL.
_COPY = """
COPY (SELECT scan, parameter_id, recorded_at,
          CASE WHEN value IS NULL THEN 'NaN' WHEN value = 'NaN' THEN 'Infinity' ELSE value END,
          CASE WHEN set_value IS NULL THEN 'NaN' WHEN set_value = 'NaN' THEN 'Infinity' ELSE set_value END,
          quality, transaction_id, value_text
      FROM parameter_value_history WHERE device_id = {} AND stream_id = {} {}
      ORDER BY scan, parameter_id) TO STDOUT (FORMAT BINARY)"""
_SIGNATURE_BYTES = 19
CHUNK_ROWS = 50_000


class LedgerRow(NamedTuple):
    """One transaction as the ledger has it."""

    transaction_id: UUID
    first_scan: int
    last_scan: int
    process_id: UUID | None
    previous_hash: bytes
    hash: bytes
    is_expired: bool
    """Whether rows of it may be gone with a partition that retention took out."""
    gap: Gap | None
    """None where it stored scans."""


Rows = NDArray[np.void]
"""Structured array with the fields of `_NATIVE`; recorded_at in microseconds since 1970."""

_MAY_BE_EXPIRED = """EXISTS (SELECT FROM expired_partitions e
    WHERE e.parent = '{parent}' AND e.detached_at IS NOT NULL
      AND e.from_at <= coalesce(l.last_recorded_at, l.logged_at)
      AND e.to_at > coalesce(l.first_recorded_at, '-infinity'))"""


def may_be_expired(parent: str = "parameter_value_history") -> str:
    """SQL: whether rows of the ledger's row `l` fell into a partition of a table that is out.

    A row without times (of version 1) may have stored anything that was read before it.
    """
    return _MAY_BE_EXPIRED.format(parent=parent)


def is_out(time: str) -> str:
    """SQL: whether a time is one of a partition of the history that is out: its rows are not there."""
    return f"""EXISTS (SELECT FROM expired_partitions x WHERE x.parent = 'parameter_value_history'
    AND x.detached_at IS NOT NULL AND x.from_at <= {time} AND x.to_at > {time})"""


def count_of(connection: Connection[Any], statement: str, *parameters: object) -> int:
    """The one number that a statement returns."""
    row = connection.execute(statement.encode(), parameters or None).fetchone()
    assert row is not None
    return int(row[0])


def microseconds(column: str) -> str:
    """SQL: a time in microseconds since 1970; 0 for NULL and what is endless."""
    return f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint ELSE 0 END"


def ledger_of(connection: Connection[Any], device_id: str, stream_id: int) -> list[LedgerRow]:
    """All transactions of a stream by scan."""
    statement = f"""
        SELECT l.transaction_id, l.first_scan, l.last_scan, l.process_id, l.previous_hash, l.hash,
            l.history_rows > 0 AND {may_be_expired()}, g.reason,
            {microseconds("g.first_at")}, {microseconds("g.last_at")}
        FROM logging_transactions l LEFT JOIN scan_gaps g USING (transaction_id)
        WHERE l.device_id = %s AND l.stream_id = %s ORDER BY l.first_scan, l.logged_at"""
    rows = connection.execute(statement.encode(), (device_id, stream_id))
    return [
        LedgerRow._make((*row[:7], None if row[7] is None else Gap(row[1], row[2], *row[7:]))) for row in rows
    ]


def executions_of(connection: Connection[Any], device_id: str, stream_id: int) -> dict[UUID, tuple[int, str]]:
    """The PLC's number and the recipe of each process that a stream recorded."""
    rows = connection.execute(
        "SELECT process_id, plc_number, recipe FROM process_executions"
        " WHERE device_id = %s AND stream_id = %s",
        (device_id, stream_id),
    )
    return {process_id: (number, recipe) for process_id, number, recipe in rows}


def history_chunks(
    connection: Connection[Any],
    device_id: str,
    stream_id: int,
    chunk_rows: int = CHUNK_ROWS,
    between: tuple[datetime, datetime] | None = None,
) -> Generator[Rows, None, None]:
    """Rows of a stream by scan and parameter, in chunks that end anywhere; one at least.

    `between`: only those recorded from the first time to before the second.
    """
    times: sql.Composable = sql.SQL("")
    if between is not None:
        ends = (sql.Literal(end) for end in between)
        times = sql.SQL("AND recorded_at >= {} AND recorded_at < {}").format(*ends)
    statement = sql.SQL(_COPY).format(sql.Literal(device_id), sql.Literal(stream_id), times)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        parts: list[bytes] = [bytes(copy.read())[_SIGNATURE_BYTES:]]
        while data := copy.read():  # one row each, and the end mark
            if len(parts) >= chunk_rows:
                yield _rows(parts)
                parts = []
            parts.append(bytes(data))
        yield _rows(parts)


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


def _rows(parts: list[bytes]) -> Rows:
    """Rows as COPY sent them, one a part; the end mark and what is empty are none."""
    size = _ROW.itemsize
    parts = [part for part in parts if len(part) >= size]
    rows = np.frombuffer(b"".join([part[:size] for part in parts]), dtype=_ROW)
    native = np.empty(len(rows), dtype=_NATIVE)
    for name in (*(name for name, _ in _FIELDS), "text_bytes"):
        native[name] = rows[name]
    for i in np.flatnonzero(native["text_bytes"] >= 0):
        native["text"][i] = parts[i][size:].decode()
    native["recorded_at"] += POSTGRES_EPOCH_US
    return native
