"""Fixture `plant`: machines whose true values were logged without a PLC, for tests to tamper with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fix_postgres import Schema
from fix_scans import START_US, recomputed_hash
from psycopg import Connection, sql

from bench.load.machine import machine
from bench.oracle.invariants import Verification
from bench.oracle.verify import verify
from logger.database.reinsertion import Reinsertable
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.repositories.synchronizing import SharedSynchronizingRepository
from logger.scan import Gap, Quality, Scan, ScanLayout, batch_of
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device
from plcsim.truth import Truth, Write

ALD = load_device(Path(__file__).parent.parent / "configs" / "ald.yaml")
PRESSURE, PRESSURE_SETPOINT = 5, 60
COILS = range(73, 85)
PLC_SCANS = [15, 16, 18, 19, 25, 26, 0, 0, 40, 60, 61, 62, 85]
"""Of ald-1's scans 1 to 13; 7 and 8 are a gap."""
_TABLES = [
    "devices",
    "component_parameters",
    "process_executions",
    "logging_streams",
    "expired_partitions",
    "parameter_value_history",
    "process_data_points",
    "logging_transactions",
    "scan_gaps",
    "compensations",
    "reinsertions",
]
"""Each behind those it refers to."""
APPEND_ONLY = _TABLES[5:]


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
        names = [group.name for group in config.groups]
        self._group = np.array([names.index(p.group) for p in config.register_map.logged])
        self._logged = [p.is_logged for p in config.register_map.parameters]
        limits = [p.limits or (-np.inf, np.inf) for p in config.register_map.logged]
        self._low, self._high = np.array(limits).T
        self._stream = schema.stream(kind, config, stream_id, self.layout.recipe)
        self._number = self._stream.head.last_scan
        self._process = self._stream.process_number

    def store(self, *plc_scans: int, bad: Sequence[int] = (), values: dict[int, float] | None = None) -> None:
        """One transaction: a scan at each PLC scan. `bad` parameters were not read; `values` were other."""
        self._stream.store(batch_of([self._scan(at, bad, values or {}) for at in plc_scans], self.layout))

    def miss(self, scans: int) -> None:
        """One transaction: a gap of so many scans."""
        self._stream.record_gap(Gap(self._number + 1, self._number + scans, "missed: the PLC was away"))
        self._number += scans

    def refuse(self, *plc_scans: int) -> list[Reinsertable]:
        """Scans that went into quarantine, a gap in the place of each."""
        refused = []
        for at in plc_scans:
            scan = self._scan(at, (), {})
            self._stream.record_gap(Gap(scan.number, scan.number, "refused by the database", 1, 2))
            refused.append(Reinsertable(self._stream.key, scan.number, scan))
        return refused

    def close(self) -> None:
        self._stream.repository.close()

    def _scan(self, plc_scan: int, bad: Sequence[int], other: dict[int, float]) -> Scan:
        self._number += 1
        values = self._truth.values_at(np.array([plc_scan]), self._writes)[0, self._logged]
        quality = np.where(np.isnan(values), Quality.BAD_SENSOR_FAILURE, Quality.GOOD).astype(np.int16)
        for parameter_id, value in other.items():
            values[self.layout.parameter_ids == parameter_id] = value
        quality[(values < self._low) | (values > self._high)] = Quality.UNCERTAIN_LIMITS_EXCEEDED
        failed = np.isin(self.layout.parameter_ids, bad)
        values[failed], quality[failed] = np.nan, Quality.BAD_COMMUNICATION
        recorded_at = START_US + self._number * 1_000_000 + self._group * 1000
        self._process = self.layout.process_number(values, self._process)
        return Scan(self._number, values, quality, recorded_at, self._process)


class Plant:
    """A schema with logged data that can be damaged and made whole again."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._checking, self._tampering = schema.connect(), schema.connect()

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

    def restore_only(self, table: str) -> None:
        """The same where no row was added or removed, and only in this table."""
        columns = self.schema.rows(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = %s",
            table,
        )
        names = ", ".join(name for (name,) in columns)
        with self._unprotected() as connection:
            if table == "devices":  # others refer to it
                connection.execute(
                    f"UPDATE devices d SET ({names}) = (SELECT {names} FROM saved_devices s"
                    " WHERE s.device_id = d.device_id)".encode()
                )
            else:
                connection.execute(f"DELETE FROM {table}".encode())
                connection.execute(f"INSERT INTO {table} TABLE saved_{table}".encode())

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
                    "SELECT parameter_id, (extract(epoch FROM recorded_at) * 1000000)::bigint, value,"
                    " set_value, quality FROM parameter_value_history WHERE transaction_id = %s"
                    " ORDER BY scan, parameter_id",
                    transaction_id,
                )
                digest = recomputed_hash(
                    previous,
                    stream_id,
                    first,
                    last,
                    device_id,
                    transaction_id,
                    process_id,
                    rows,
                    reason or "",
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
        return verify(self._checking, lambda device_id: writes)

    @contextmanager
    def _unprotected(self) -> Iterator[Connection[Any]]:
        """A transaction in which history can be changed."""
        connection = self._tampering
        with connection.transaction():
            for verb in ("DISABLE", "ENABLE"):
                if verb == "ENABLE":
                    yield connection
                for table in APPEND_ONLY:
                    connection.execute(f"ALTER TABLE {table} {verb} TRIGGER append_only".encode())


def violations(verification: Verification) -> dict[str, int]:
    """How often each invariant was violated, those that hold left out."""
    return {name: check.violations for name, check in verification.checks.items() if check.violations}


ALD_1 = "device_id = 'ald-1' AND stream_id = 1"
OF_ALD_1 = f"WHERE {ALD_1}"
HISTORY, POINTS, LEDGER = "parameter_value_history", "process_data_points", "logging_transactions"
CURRENT, EXECUTIONS = "component_parameters", "process_executions"
STREAMS, GAPS = "logging_streams", "scan_gaps"


def row(scan: int, parameter: int = PRESSURE) -> str:
    """SQL: one row of ald-1's first stream."""
    return f"WHERE {ALD_1} AND scan = {scan} AND parameter_id = {parameter}"


def update(table: str, change: str, where: str = "") -> str:
    return f"UPDATE {table} SET {change} {where}"


def tx(first_scan: int, device: str = "ald-1", stream: int = 1) -> str:
    """SQL: the id of a transaction."""
    return (
        f"(SELECT transaction_id FROM saved_logging_transactions WHERE device_id = '{device}' AND "
        f"stream_id = {stream} AND first_scan = {first_scan})"
    )


def copy_of(table: str, where: str, **changed: str) -> str:
    """SQL that stores rows of a table once more, with some columns changed."""
    columns = ["recorded_at", "scan", "value", "set_value", "transaction_id", "stream_id", "parameter_id"]
    columns += ["quality", "device_id", *(["process_id"] if table == POINTS else [])]
    chosen = [changed.get(column, column) for column in columns]
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(chosen)} FROM {table} {where}"


def log_plant(schema: Schema) -> None:
    """An ALD machine idle, running and idle, with a gap and bad values, in two streams; and a baseline."""
    first = TrueStream(schema, ALD)
    first.store(15, 16)  # scans 1, 2: idle
    first.store(18, 19)  # 3, 4
    first.store(25, 26)  # 5, 6: the recipe runs
    first.miss(2)  # 7, 8
    first.store(40, bad=COILS)  # 9
    first.store(60, 61, 62)  # 10, 11, 12
    first.store(85)  # 13: idle again
    second = TrueStream(schema, ALD, stream_id=2, kind=SharedSynchronizingRepository)
    second.store(100, 101)  # 1, 2: running, the next execution
    baseline = TrueStream(schema, machine(45, "base-1"), kind=BaselineRepository)
    baseline.store(7, 8)
    baseline.store(9)


@pytest.fixture(scope="session")
def logged(postgres: str) -> Iterator[Plant]:
    schema = Schema(postgres, f"test_plant_{os.getpid()}")
    log_plant(schema)
    plant = Plant(schema)
    plant.save()
    yield plant
    schema.drop()


@pytest.fixture
def plant(logged: Plant) -> Iterator[Plant]:
    """What `log_plant` logged, whole before each test."""
    yield logged
    logged.restore()
