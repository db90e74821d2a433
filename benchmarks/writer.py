"""Our writer against pgbench -M prepared: the same statement on the same tables, interleaved.

pgbench is a C program that sends the same bytes over and over. Ours makes a scan, its batch, its hash
and its arrays each time. What pgbench cannot do favours it: it sends one transaction id and one hash
again and again, so in its schema the ledger's key is an index that allows that.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np
from figures import figure, finish

from bench.load.arms import bench_schema, bench_server, growing_wal
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from logger.database import connect
from logger.database.embedded import postgres_binaries
from logger.repositories import SynchronizingRepository
from logger.repositories.statements import Newest, synchronizing
from logger.scan import Batch, ScanLayout, StreamKey, batch_of

PARAMETERS = 84
ROUNDS = 8
ROUND_S = 4.0
WRITER = UUID(int=1)
_TYPES = {
    "device_id": "text", "stream_id": "int", "expected_scan": "bigint", "first_scan": "bigint",
    "last_scan": "bigint", "previous_hash": "bytea", "hash": "bytea", "transaction_id": "uuid",
    "repository": "text", "rows": "int", "process_rows": "int", "process_id": "uuid",
    "parameters": "bigint", "parameter_id": "int[]", "recorded_at": "timestamptz[]", "value": "float8[]",
    "set_value": "float8[]", "quality": "int2[]", "writer": "uuid",
    "first_recorded_at": "timestamptz", "last_recorded_at": "timestamptz",
}  # fmt: skip


class Ours:
    """Stores scans as fast as it goes through the synchronizing repository."""

    def __init__(self, conninfo: str, schema: str) -> None:
        config = machine(PARAMETERS)
        self.layout, self.source = ScanLayout(config), PrecomputedScans(config)
        self.connection = connect(conninfo, schema)
        key = StreamKey(self.layout.device_id)
        self.stream = SynchronizingRepository(self.connection).open(key, "bench", WRITER)

    def batch(self) -> Batch:
        return batch_of([self.source.next(self.stream.head.last_scan + 1)], self.layout)

    def per_second(self, seconds: float) -> float:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.stream.store(self.batch())
            count += 1
        return count / (time.perf_counter() - start)


class Pgbench:
    """Runs the same statement in pgbench."""

    def __init__(self, conninfo: str, schema: str, batch: Batch, folder: Path) -> None:
        self._environment = {"PGOPTIONS": f"-c search_path={schema} -c synchronous_commit=on"}
        statement = re.sub(
            r"%\((\w+)\)s(::uuid|::timestamptz)?",
            lambda m: f":{m[1]}::{_TYPES[m[1]]}",
            synchronizing(Newest.ONE_SCAN),
        )
        script = folder / "store.sql"
        script.write_text(
            "\\set expected_scan :last_scan\n\\set last_scan :last_scan + 1\n"
            f"\\set first_scan :last_scan\n{' '.join(statement.split())};\n"
        )
        self._last_scan = 0
        self._conninfo, self._script = conninfo, script
        self._variables = _variables(batch)
        with connect(conninfo, schema) as connection:
            connection.execute("ALTER TABLE logging_transactions DROP CONSTRAINT logging_transactions_pkey")
            connection.execute("CREATE INDEX ON logging_transactions (transaction_id)")
            connection.execute(
                "INSERT INTO logging_streams (device_id, stream_id, head_hash, writer)"
                " VALUES (%s, 1, %s, %s)",
                (batch.device_id, bytes(32), WRITER),
            )
        self._schema = schema

    def per_second(self, seconds: float) -> float:
        with connect(self._conninfo, self._schema) as connection:
            row = connection.execute("SELECT last_scan FROM logging_streams").fetchone()
            assert row is not None
        variables = {**self._variables, "last_scan": str(row[0])}
        done = subprocess.run(
            [str(postgres_binaries() / "pgbench"), "-n", "-M", "prepared", "-T", str(round(seconds)),
             "-f", str(self._script), *(f"-D{key}={value}" for key, value in variables.items()),
             self._conninfo],
            env=self._environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        assert rate is not None, done.stdout
        assert failed is None or failed[1] == "0", done.stdout
        return float(rate[1])


def _variables(batch: Batch) -> dict[str, str]:
    def array(values: np.ndarray) -> str:
        return "{" + ",".join("NULL" if v != v else repr(v) for v in values.tolist()) + "}"

    zero_hash = "\\x" + "00" * 32
    at = np.datetime64(int(batch.recorded_at[0]), "us")
    return {
        "device_id": batch.device_id, "stream_id": "1", "previous_hash": zero_hash, "hash": zero_hash,
        "transaction_id": str(batch.transaction_id), "repository": "synchronizing", "rows": str(PARAMETERS),
        "process_rows": str(PARAMETERS), "process_id": str(batch.transaction_id),
        "parameters": str(PARAMETERS), "parameter_id": array(batch.parameter_id),
        "recorded_at": "{" + ",".join([f'"{at}Z"'] * PARAMETERS) + "}", "value": array(batch.value),
        "set_value": array(batch.set_value), "quality": "{}",
        "writer": str(WRITER), "first_recorded_at": f"{at}Z", "last_recorded_at": f"{at}Z",
    }  # fmt: skip


def main() -> None:
    config = machine(PARAMETERS)
    with (
        TemporaryDirectory() as folder,
        bench_server(None) as conninfo,
        connect(conninfo) as monitor,
        bench_schema(monitor, conninfo, "ours", [config]) as mine,
        bench_schema(monitor, conninfo, "pgbench", [config]) as theirs,
    ):
        ours = Ours(conninfo, mine)
        pgbench = Pgbench(conninfo, theirs, ours.batch(), Path(folder))
        with growing_wal(conninfo, 200) as grown:
            grown.result()
        ours.per_second(1.0), pgbench.per_second(1.0)
        monitor.execute("ANALYZE")
        monitor.execute("CHECKPOINT")
        rates = []
        for index in range(ROUNDS):  # each begins in turn, so that a drift hits both alike
            first, second = (ours, pgbench) if index % 2 else (pgbench, ours)
            rate = {first: first.per_second(ROUND_S), second: second.per_second(ROUND_S)}
            rates.append((rate[ours], rate[pgbench]))
        ours.connection.close()
    ratio = float(np.median([mine / other for mine, other in rates]))
    figure("writer, 84 parameters, synchronizing", float(np.median([r[0] for r in rates])), "tx/s")
    figure("pgbench -M prepared, same statement", float(np.median([r[1] for r in rates])), "tx/s")
    figure("writer / pgbench, median of paired rounds", ratio, "", ">= 0.9", ratio >= 0.9)
    finish()


if __name__ == "__main__":
    main()
