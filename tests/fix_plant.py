"""A plant whose true values are logged without a PLC, so that a test can then tamper with what was stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from collections.abc import Iterator

import numpy as np
from fix_postgres import Schema
from fix_scans import START_US, recomputed_hash
from psycopg import sql

from bench.verify import Verification, verify
from logger.repositories import Repository, SynchronizingRepository
from logger.scan import Gap, Quality, Scan, ScanLayout, batch_of
from plcsim.config import DeviceConfig
from plcsim.truth import Truth, Write

_TABLES = [
    "devices",
    "component_parameters",
    "process_executions",
    "logging_streams",
    "parameter_value_history",
    "process_data_points",
    "logging_transactions",
    "scan_gaps",
]
"""Each behind those it refers to."""
APPEND_ONLY = _TABLES[4:]


class TrueStream:
    """A stream of a device, logged by a perfect logger from a perfect PLC."""

    def __init__(
        self,
        schema: Schema,
        config: DeviceConfig,
        stream_id: int = 1,
        kind: type[Repository] = SynchronizingRepository,
        writes: Sequence[Write] = (),
    ) -> None:
        self.layout = ScanLayout(config)
        self._truth = Truth(config)
        self._writes = list(writes)
        self._number = 0
        self._groups = [config.groups.index(g) for p in config.register_map.parameters
                        for g in config.groups if g.name == p.group]  # fmt: skip
        self._process: int | None = None
        self._repository = schema.repository(kind, config, stream_id, self.layout.recipe)

    def store(
        self, *plc_scans: int, bad: Sequence[int] = (), values: dict[int, float] | None = None
    ) -> None:
        """One transaction: a scan at each PLC scan. `bad` parameters were not read; `values` were other."""
        self._repository.store(batch_of([self._scan(at, bad, values or {}) for at in plc_scans], self.layout))

    def miss(self, scans: int) -> None:
        """One transaction: a gap of so many scans."""
        self._repository.record_gap(Gap(self._number + 1, self._number + scans, "missed: the PLC was away"))
        self._number += scans

    def _scan(self, plc_scan: int, bad: Sequence[int], other: dict[int, float]) -> Scan:
        self._number += 1
        values = self._truth.values_at(np.array([plc_scan]), self._writes)[0]
        quality = np.full(self.layout.size, Quality.GOOD, dtype=np.int16)
        for parameter_id, value in other.items():
            values[self.layout.parameter_ids == parameter_id] = value
        failed = np.isin(self.layout.parameter_ids, bad)
        values[failed], quality[failed] = np.nan, Quality.BAD_COMMUNICATION
        recorded_at = START_US + self._number * 1_000_000 + np.array(self._groups) * 1000
        self._process = self.layout.process_number(values, self._process)
        return Scan(self._number, values, quality, recorded_at, self._process)


class Plant:
    """A schema with logged data that can be damaged and made whole again."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._checking = schema.connect()

    def save(self) -> None:
        """What is stored now is what `restore` brings back."""
        for table in _TABLES:
            self.schema.rows(f"CREATE TABLE saved_{table} AS TABLE {table}")
        self.schema.rows("ANALYZE")

    def restore(self) -> None:
        with self._unprotected() as connection:
            for table in reversed(_TABLES):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for table in _TABLES:
                saved = sql.Identifier(f"saved_{table}")
                connection.execute(sql.SQL("INSERT INTO {} TABLE {}").format(sql.Identifier(table), saved))

    def tamper(self, *statements: str) -> None:
        """Change something behind the logger's back, as the tables' owner can; it must change something."""
        with self._unprotected() as connection:
            for statement in statements:
                assert connection.execute(statement.encode()).rowcount > 0, statement

    def rehash(self, device_id: str = "ald-1", stream_id: int = 1) -> None:
        """Make the hash chain agree with what is stored now, as a forger would."""
        previous = bytes(32)
        ledger = self.schema.rows(
            "SELECT transaction_id, l.first_scan, l.last_scan, process_id, reason FROM logging_transactions l"
            " LEFT JOIN scan_gaps USING (transaction_id) WHERE l.device_id = %s AND l.stream_id = %s"
            " ORDER BY l.first_scan",
            device_id,
            stream_id,
        )
        with self._unprotected() as connection:
            for transaction_id, first, last, process_id, reason in ledger:
                rows = self.schema.rows(
                    "SELECT parameter_id, (extract(epoch FROM recorded_at) * 1000000)::bigint, value, set_value,"
                    " quality FROM parameter_value_history WHERE transaction_id = %s ORDER BY scan, parameter_id",
                    transaction_id,
                )
                digest = recomputed_hash(
                    previous, stream_id, first, last, device_id, transaction_id, process_id, rows, reason or ""
                )
                connection.execute(
                    "UPDATE logging_transactions SET previous_hash = %s, hash = %s WHERE transaction_id = %s",
                    (previous, digest, transaction_id),
                )
                previous = digest
            connection.execute(
                "UPDATE logging_streams SET head_hash = %s WHERE device_id = %s AND stream_id = %s",
                (previous, device_id, stream_id),
            )

    def verify(self, writes: Sequence[Write] = ()) -> Verification:
        return verify(self._checking, writes)

    @contextmanager
    def _unprotected(self) -> Iterator[object]:
        ...


def violations(verification: Verification) -> dict[str, int]:
    """How often each invariant was violated, those that hold left out."""
    return {name: check.violations for name, check in verification.checks.items() if check.violations}
