"""Memory and CPU of processes, and PostgreSQL's own counters; the only place that knows psutil."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
from psycopg import Connection


@dataclass(frozen=True)
class ProcessUse:
    """What a process uses."""

    private_bytes: int
    """Resident memory that no file and no shared memory stands behind: its own."""
    cpu_s: float
    """User and system time since its start."""


def process_use(pid: int | None = None) -> ProcessUse | None:
    """Use of a process (of this one without pid); None if it is not on this machine."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            memory, cpu = process.memory_info(), process.cpu_times()
    except psutil.Error:
        return None
    return ProcessUse(memory.rss - getattr(memory, "shared", 0), cpu.user + cpu.system)


def is_postgres(pid: int) -> bool:
    """Whether a process of this machine is a PostgreSQL backend: then the server is local."""
    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.Error:
        return False


@dataclass(frozen=True)
class ServerCounters:
    """Counters of the server and of our tables in one schema, at one moment."""

    wal_bytes: int
    checkpoints: int
    """Begun; the server tells it late, of a short one after its end."""
    checkpoint_lsn: int
    """Of the last one that has ended; told at once."""
    vacuums: int
    """Vacuum and analyze runs on the schema's tables, automatic or not."""
    updates: int
    hot_updates: int
    """Of component_parameters."""
    current_bytes: int
    """Size of component_parameters."""
    history_inserts: int
    """Into all partitions."""
    deadlocks: int


_CHECKPOINTS = {
    True: "SELECT num_timed + num_requested FROM pg_stat_checkpointer",
    False: "SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter",
}
_COUNTERS = r"""
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
    ({checkpoints}),
    (SELECT pg_wal_lsn_diff(checkpoint_lsn, '0/0') FROM pg_control_checkpoint())::bigint,
    coalesce(sum(vacuum_count + autovacuum_count + analyze_count + autoanalyze_count), 0)::bigint,
    coalesce(sum(n_tup_upd) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(n_tup_hot_upd) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(pg_relation_size(relid)) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(n_tup_ins) FILTER (WHERE relname LIKE 'parameter\_value\_history%%'), 0)::bigint,
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())
FROM pg_stat_all_tables WHERE schemaname = %s"""


def server_counters(connection: Connection[Any], schema: str) -> ServerCounters:
    """Read the counters; the connection must be outside a transaction.

    The statistics lag behind until the backend that did the work has flushed its own.
    """
    checkpoints = _CHECKPOINTS[connection.info.server_version >= 170000]
    row = connection.execute(_COUNTERS.format(checkpoints=checkpoints).encode(), (schema,)).fetchone()
    assert row is not None
    return ServerCounters(*(int(value) for value in row))
