"""Classes of your own as arms of `plcbench quick`: how the two kinds look.

plcbench quick --a synchronizing --b examples.own_repository:WithNotify
plcbench quick --a baseline --b examples.own_repository:OneRowAScan
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from logger.repositories import SynchronizingRepository
from logger.scan import Batch


class WithNotify(SynchronizingRepository):
    """Our tables, another statement: every transaction also wakes whoever listens.

    As a subclass of a repository of ours it is checked by the oracle, all invariants.
    """

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        statement, values = super().statement(batch)
        return f"{statement}, (SELECT pg_notify('scans', '')) AS told", values


class OneRowAScan:
    """Tables of its own: the values of a scan in one row, as an array."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    @staticmethod
    def prepare(connection: Connection[Any], schema: str) -> None:
        """Make the table; search_path names the schema already."""
        connection.execute(
            "CREATE TABLE scans (device_id text, scan bigint, at timestamptz, values double precision[])"
        )

    def store(self, batch: Batch) -> None:
        """Store all scans of a batch, or none; returns once they are committed."""
        scans = batch.last_scan - batch.first_scan + 1
        rows = [
            (batch.device_id, batch.first_scan + n, int(at[0]) / 1e6, values.tolist())
            for n, (at, values) in enumerate(
                zip(batch.recorded_at.reshape(scans, -1), batch.value.reshape(scans, -1), strict=True)
            )
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO scans VALUES (%s, %s, to_timestamp(%s), %s)", rows)

    @staticmethod
    def stored(connection: Connection[Any]) -> int:
        """How many batches the table holds: here each has one scan."""
        row = connection.execute("SELECT count(*) FROM scans").fetchone()
        return row[0] if row else 0

    @staticmethod
    def check(connection: Connection[Any]) -> Sequence[str]:
        """What is wrong: a scan that is stored twice."""
        twice = connection.execute("SELECT device_id, scan FROM scans GROUP BY 1, 2 HAVING count(*) > 1")
        return [f"scan {scan} of {device_id} is stored twice" for device_id, scan in twice]
