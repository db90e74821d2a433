"""Memory and CPU of processes, the server's counters, and what a result says of where it was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from fix_plant import ALD, TrueStream
from fix_postgres import Schema
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from bench.measuring.environment import environment
from bench.measuring.resources import (
    ServerCounters,
    changed_rows,
    cpu_seconds,
    family_cpu_s,
    is_postgres,
    machine_cpu,
    machine_memory_free_bytes,
    process_use,
    server_counters,
)
from logger.database import connect

EATS = """
import sys
kept = bytearray(b"x") * int(sys.argv[1])
n = 0
while n < int(sys.argv[2]):
    n += 1
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def eating(memory: int, turns: int) -> Iterator[int]:
    """A process that holds so much memory and has counted so far; its id."""
    command = [sys.executable, "-c", EATS, str(memory), str(turns)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid


def test_private_memory_is_what_a_process_has_for_itself() -> None:
    with eating(0, 0) as small, eating(50_000_000, 0) as large:
        uses = process_use(small), process_use(large)
    assert uses[0] is not None
    assert uses[1] is not None
    assert uses[1].private_bytes - uses[0].private_bytes == pytest.approx(50_000_000, rel=0.1)


def test_cpu_time_grows_with_work() -> None:
    with eating(0, 0) as idle, eating(0, 3_000_000) as busy:
        uses = process_use(idle), process_use(busy)
    assert uses[0] is not None
    assert uses[1] is not None
    assert uses[1].cpu_s > uses[0].cpu_s


def test_cpu_time_is_told_finely_and_agrees_with_the_clock_of_the_process(schema: Schema) -> None:
    connection = schema.connect()
    backend = connection.info.backend_pid

    def spent(turns: int) -> float:
        before = cpu_seconds(backend)
        connection.execute("SELECT count(*) FROM generate_series(1, %s)", (turns,))
        after = cpu_seconds(backend)
        assert before is not None
        assert after is not None
        return after - before

    assert 0 < spent(100) < spent(300_000) < 30
    with eating(0, 3_000_000) as busy:
        use, seconds = process_use(busy), cpu_seconds(busy)
    assert use is not None
    assert seconds == pytest.approx(use.cpu_s, abs=0.05)


def test_a_family_is_a_process_with_its_descendants() -> None:
    own = family_cpu_s(os.getpid())
    with eating(0, 5_000_000) as child:
        more, childs = family_cpu_s(os.getpid()), cpu_seconds(child)
    assert own is not None
    assert more is not None
    assert childs is not None
    assert more - own >= 0.9 * childs > 0


def test_the_machine_is_as_busy_as_its_processes_make_it() -> None:
    before = machine_cpu()
    with eating(0, 5_000_000) as pid:
        spent = cpu_seconds(pid)
        after = machine_cpu()
    assert spent is not None
    assert after.busy_s - before.busy_s >= spent - 0.05  # it counts in ticks of 10 ms
    assert 0 < after.busy_share(before) <= 1
    assert after.total_s > after.busy_s
    assert 0 < machine_memory_free_bytes() < 2**50


def test_a_process_that_is_gone_uses_nothing() -> None:
    with eating(0, 0) as pid:
        pass
    assert process_use(pid) is None
    assert cpu_seconds(pid) is None
    assert family_cpu_s(pid) is None
    assert is_postgres(pid) is False


def test_our_own_process_is_meant_without_an_id() -> None:
    ours, named = process_use(), process_use(os.getpid())
    assert ours is not None
    assert named is not None
    assert ours.private_bytes == pytest.approx(named.private_bytes, rel=0.2)


def test_a_backend_is_told_from_other_processes(schema: Schema) -> None:
    assert is_postgres(schema.value("SELECT pg_backend_pid()"))
    assert not is_postgres(os.getpid())


def counted(schema: Schema, monitor: psycopg.Connection[Any]) -> ServerCounters:
    schema.rows("SELECT pg_stat_force_next_flush()")
    return server_counters(monitor, schema.name)


def test_counters_show_what_was_done_to_our_tables(schema: Schema) -> None:
    monitor = schema.connect()
    before = counted(schema, monitor)
    assert (before.history_inserts, before.updates, before.hot_updates) == (0, 0, 0)
    stream = TrueStream(schema, ALD)
    stream.store(1, 2)
    stream.close()  # a backend that ends has told its counts
    after = wait_for(lambda: (now := counted(schema, monitor)).history_inserts and now)
    assert after.history_inserts == 2 * 84
    assert after.updates == 84
    assert 0 < after.hot_updates <= 84
    assert after.current_bytes >= 8192
    assert after.wal_bytes > before.wal_bytes


def test_changed_rows_are_those_of_all_tables_of_one_schema(schema: Schema) -> None:
    monitor, owner = schema.connect(), schema.connect()
    schema.rows("SELECT pg_stat_force_next_flush()")
    before = changed_rows(monitor, schema.name)
    owner.execute("CREATE TABLE mine AS SELECT n FROM generate_series(1, 100) n")
    owner.execute("UPDATE mine SET n = n WHERE n <= 10")
    owner.execute("DELETE FROM mine WHERE n <= 3")
    owner.execute("SELECT pg_stat_force_next_flush()")
    assert wait_for(lambda: changed_rows(monitor, schema.name) - before) == 113
    assert changed_rows(monitor, "no such schema") == 0


@pytest.mark.parametrize("statement", ["VACUUM component_parameters", "ANALYZE parameter_value_history"])
def test_vacuum_and_analyze_are_counted(schema: Schema, statement: str) -> None:
    monitor = schema.connect()
    before = counted(schema, monitor)
    schema.rows(statement)
    assert counted(schema, monitor).vacuums > before.vacuums


def test_a_checkpoint_is_counted(schema: Schema) -> None:
    monitor = schema.connect()
    before = counted(schema, monitor)
    schema.rows("CHECKPOINT")
    wait_for(lambda: counted(schema, monitor).checkpoints > before.checkpoints)


def test_counters_of_a_schema_that_is_not_there_are_zero(schema: Schema) -> None:
    counters = server_counters(schema.connect(), "no such schema")
    assert (counters.vacuums, counters.updates, counters.current_bytes, counters.history_inserts) == (
        0,
        0,
        0,
        0,
    )


def test_the_environment_is_json_and_names_what_matters(postgres: str) -> None:
    with connect(postgres) as connection:
        where = environment(connection)
        version = connection.info.server_version // 10000
    assert json.loads(json.dumps(where, allow_nan=False)) == where
    assert where["cores"] >= 1
    assert where["postgresql"]["version"].startswith(str(version))
    assert {"fsync", "synchronous_commit", "full_page_writes"} <= where["postgresql"]["settings"].keys()
    assert where["fsync_us"]["p50"] <= where["fsync_us"]["p99"]
    assert where["packages"]["psycopg"] != "absent"
    assert len(where["commit"]) in (0, 40, 41)


def test_the_environment_keeps_secrets_and_places_to_itself(postgres: str) -> None:
    with connect(postgres) as owner:
        owner.execute("ALTER SYSTEM SET restore_command = 'cp --password=hunter2 /secret/%f %p'")
        owner.execute("SELECT pg_reload_conf()")
        try:
            with connect(make_conninfo(postgres, application_name="hunter2")) as connection:
                wait_for(lambda: "hunter2" in str(connection.execute("SHOW restore_command").fetchone()))
                text = json.dumps(environment(connection))
        finally:
            owner.execute("ALTER SYSTEM RESET restore_command")
            owner.execute("SELECT pg_reload_conf()")
        folder = owner.execute("SHOW data_directory").fetchone()
    assert folder is not None
    assert "hunter2" not in text
    assert folder[0] not in text
