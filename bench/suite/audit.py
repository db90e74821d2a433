"""The audit trace: every stored row leads by its transaction id to one row of the ledger, and back.

Forward: rows of history, of processes and current values, each to its ledger row. Back: each ledger row to
exactly as many rows as it says. Current values are the last word alone, so the way back from the ledger
leads to those whose value no later transaction has replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection

_HISTORY, _POINTS, _CURRENT = "parameter_value_history", "process_data_points", "component_parameters"
_FORWARD = """
SELECT count(*), count(*) FILTER (WHERE l.transaction_id IS NULL),
    count(*) FILTER (WHERE l.device_id <> r.device_id)
FROM {table} r LEFT JOIN logging_transactions l USING (transaction_id)
WHERE r.transaction_id IS NOT NULL"""
_BACK = """
SELECT count(*), count(*) FILTER (WHERE l.{column} <> coalesce(r.rows, 0))
FROM logging_transactions l
LEFT JOIN (SELECT transaction_id, count(*) AS rows FROM {table} GROUP BY 1) r USING (transaction_id)"""
_CURRENT_BACK = """
SELECT count(*), count(*) FILTER (WHERE h.transaction_id IS NULL)
FROM component_parameters c
LEFT JOIN parameter_value_history h ON h.transaction_id = c.transaction_id AND h.device_id = c.device_id
    AND h.parameter_id = c.parameter_id AND h.scan = c.scan AND h.value IS NOT DISTINCT FROM c.current_value
WHERE c.transaction_id IS NOT NULL"""


@dataclass(frozen=True)
class Trace:
    """One table's way to the ledger and back."""

    table: str
    rows: int
    """That carry a transaction id."""
    orphans: int
    """Whose transaction is not in the ledger."""
    strangers: int
    """Whose transaction is another device's."""
    back: int
    """What was followed back: ledger rows; of current values, the values themselves."""
    back_wrong: int
    """Ledger rows with another number of rows; current values that are not in their transaction's rows."""

    @property
    def wrong(self) -> int:
        return self.orphans + self.strangers + self.back_wrong

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "orphans": self.orphans,
            "strangers": self.strangers,
            "followed_back": self.back,
            "wrong_back": self.back_wrong,
        }


def trace(connection: Connection[Any]) -> list[Trace]:
    """Follow every row of the three tables both ways, in the connection's schema; raises psycopg.Error."""
    back = {
        _HISTORY: _BACK.format(table=_HISTORY, column="history_rows"),
        _POINTS: _BACK.format(table=_POINTS, column="process_rows"),
        _CURRENT: _CURRENT_BACK,
    }
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL statement_timeout = 0")
        return [
            Trace(table, *_counts(connection, _FORWARD.format(table=table)), *_counts(connection, query))
            for table, query in back.items()
        ]


def _counts(connection: Connection[Any], query: str) -> tuple[int, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(int(value) for value in row)
