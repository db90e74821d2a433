"""Memory and CPU of processes, and PostgreSQL's own counters; the only place that knows psutil."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
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


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a process since its start; None if it is not on this machine.

    Linux tells it in nanoseconds, of the process's first thread: all that a PostgreSQL backend has.
    Elsewhere in whole clock ticks, of all threads.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        use = process_use(pid)
        return use.cpu_s if use else None


def family_cpu_s(pid: int) -> float | None:
    """CPU time of a process and of all that descend from it and live; None if it is not on this machine.

    Of a postmaster: what its server spends, without backends that have ended.
    """
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return None
    spent = [cpu_seconds(member.pid) for member in family]
    return sum(seconds for seconds in spent if seconds is not None)


@dataclass(frozen=True)
class MachineCpu:
    """CPU time of all cores together since the machine started, in seconds."""

    busy_s: float
    """Neither idle nor waiting for a disk."""
    total_s: float
    steal_s: float
    """Of `busy_s`: taken by the host of a virtual machine."""
    iowait_s: float

    def busy_share(self, before: MachineCpu) -> float:
        """Share of the cores' time since then that was busy, 0 to 1; NaN if no time has passed."""
        total = self.total_s - before.total_s
        return (self.busy_s - before.busy_s) / total if total > 0 else math.nan


def machine_cpu() -> MachineCpu:
    """What the cores have done so far."""
    times = psutil.cpu_times()
    iowait = getattr(times, "iowait", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return MachineCpu(total - times.idle - iowait, total, getattr(times, "steal", 0.0), iowait)


def machine_memory_free_bytes() -> int:
    """Memory that could be given to processes without swapping."""
    return int(psutil.virtual_memory().available)


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


def changed_rows(connection: Connection[Any], schema: str) -> int:
    """Rows that were inserted, updated or deleted in all tables of a schema, as the server counts them.

    The connection must be outside a transaction; the statistics lag as those of `server_counters`.
    """
    row = connection.execute(
        "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_all_tables"
        " WHERE schemaname = %s",
        (schema,),
    ).fetchone()
    assert row is not None
    return int(row[0])
