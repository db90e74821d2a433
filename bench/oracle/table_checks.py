"""Statements over whole tables: I1, and that each gap and each void is what the ledger says.

What retention has taken out is excused only as `expired_partitions` says: a transaction whose time
fell into such a partition may miss rows, and all that is missing must be what was counted there.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from bench.oracle.invariants import Check
from bench.oracle.stored_rows import count_of, is_out, may_be_expired

_HISTORY, _POINTS = "parameter_value_history", "process_data_points"

# All rows of a transaction are of one process or none, so its process rows are its history rows: the
# sums of the rows' hashes tell, ten times as fast as a join of both tables.
_CONTENT = """sum(hash_record_extended(ROW(device_id, stream_id, scan, parameter_id, recorded_at, value,
    set_value, quality, value_text), 0))"""
_TORN = f"""
WITH history AS (
    SELECT transaction_id, count(*) AS rows, {_CONTENT} AS content,
        min(recorded_at) AS first_at, max(recorded_at) AS last_at
    FROM {_HISTORY} GROUP BY 1
), part AS (
    SELECT transaction_id, process_id, count(*) AS rows, {_CONTENT} AS content FROM {_POINTS} GROUP BY 1, 2
), process AS (
    SELECT transaction_id, sum(rows) AS rows, sum(content) AS content, array_agg(process_id) AS ids
    FROM part GROUP BY 1
), ledger AS (
    SELECT *, {may_be_expired(_HISTORY)} AS history_out, {may_be_expired(_POINTS)} AS points_out
    FROM logging_transactions l
)
SELECT transaction_id, l.history_rows, coalesce(h.rows, 0), l.process_rows, coalesce(p.rows, 0),
    coalesce(p.ids <> ARRAY[l.process_id], false),
    l.first_recorded_at <> h.first_at OR l.last_recorded_at <> h.last_at
FROM ledger l
FULL JOIN history h USING (transaction_id)
FULL JOIN process p USING (transaction_id)
WHERE l.transaction_id IS NULL
   OR (l.history_rows <> coalesce(h.rows, 0) AND NOT (history_out AND l.history_rows > coalesce(h.rows, 0)))
   OR (l.process_rows <> coalesce(p.rows, 0) AND NOT (points_out AND l.process_rows > coalesce(p.rows, 0)))
   OR l.process_rows <> CASE WHEN l.process_id IS NULL THEN 0 ELSE l.history_rows END
   OR (p.content <> h.content AND NOT history_out AND NOT points_out) OR p.ids <> ARRAY[l.process_id]
   OR num_nonnulls(l.first_recorded_at, l.last_recorded_at) = 1
   OR (l.first_recorded_at IS NOT NULL AND l.history_rows = 0)
   OR l.first_recorded_at > h.first_at OR l.last_recorded_at < h.last_at
   OR ((l.first_recorded_at <> h.first_at OR l.last_recorded_at <> h.last_at)
       AND NOT (history_out AND l.history_rows > h.rows))
ORDER BY l.first_scan, transaction_id"""

_OUT = """
SELECT parent, count(*), sum(rows), bool_and(rows IS NOT NULL) FROM expired_partitions
WHERE detached_at IS NOT NULL GROUP BY 1 ORDER BY 1"""

_MISSING = """
SELECT coalesce(sum(l.{column} - coalesce(r.rows, 0)), 0)
FROM logging_transactions l
LEFT JOIN (SELECT transaction_id, count(*) AS rows FROM {parent} GROUP BY 1) r USING (transaction_id)
WHERE {may_be_expired} AND l.{column} > coalesce(r.rows, 0)"""

_EXECUTIONS = f"""
WITH stored AS (
    SELECT device_id, stream_id, process_id, first_scan, last_scan, true AS logged
    FROM logging_transactions WHERE process_id IS NOT NULL AND stream_id <> 0
    UNION ALL
    SELECT r.device_id, r.stream_id, l.process_id, r.scan, r.scan, false
    FROM reinsertions r JOIN logging_transactions l ON l.transaction_id = r.ledger_id
    WHERE l.process_id IS NOT NULL
), run AS (
    SELECT device_id, stream_id, process_id, min(first_scan) AS first_scan, max(last_scan) AS last_scan,
        bool_or(logged) AS logged
    FROM stored GROUP BY 1, 2, 3
), scan AS (
    SELECT DISTINCT device_id, stream_id, scan, recorded_at FROM {_HISTORY}
    WHERE (device_id, recorded_at) IN (SELECT device_id, started_at FROM process_executions
                                       UNION SELECT device_id, ended_at FROM process_executions)
)
SELECT process_id, e.first_scan, e.ended_at, run.first_scan, run.last_scan
FROM process_executions e FULL JOIN run USING (device_id, stream_id, process_id)
LEFT JOIN LATERAL (
    SELECT min(first_scan) AS scan FROM logging_transactions l
    WHERE l.device_id = e.device_id AND l.stream_id = e.stream_id AND l.first_scan > run.last_scan
      AND l.history_rows > 0
) after ON true
WHERE e.first_scan IS DISTINCT FROM run.first_scan
   OR (e.ended_at IS NULL) <> (run.logged AND after.scan IS NULL)
   OR NOT {is_out("e.started_at")}
       AND NOT EXISTS (SELECT FROM scan s WHERE (s.device_id, s.stream_id, s.scan, s.recorded_at)
                       = (e.device_id, e.stream_id, e.first_scan, e.started_at))
   OR e.ended_at IS NOT NULL AND NOT {is_out("e.ended_at")}
       AND NOT EXISTS (SELECT FROM scan s WHERE (s.device_id, s.stream_id, s.recorded_at)
                       = (e.device_id, e.stream_id, e.ended_at)
                       AND CASE WHEN run.logged THEN s.scan = after.scan ELSE s.scan >= run.last_scan END)"""

_GAPS = """
SELECT transaction_id, g.first_scan, g.last_scan, l.first_scan, l.last_scan
FROM scan_gaps g
FULL JOIN (SELECT transaction_id, device_id, stream_id, first_scan, last_scan
           FROM logging_transactions WHERE history_rows = 0 AND stream_id <> 0) l USING (transaction_id)
WHERE (g.device_id, g.stream_id, g.first_scan, g.last_scan)
    IS DISTINCT FROM (l.device_id, l.stream_id, l.first_scan, l.last_scan)
ORDER BY g.first_scan, l.first_scan"""

_VOIDS = """
SELECT c.ledger_id, c.transaction_id, l.transaction_id
FROM compensations c
FULL JOIN (SELECT transaction_id, device_id, stream_id, first_scan, repository
           FROM logging_transactions WHERE history_rows = 0 AND stream_id = 0) l
    ON l.transaction_id = c.ledger_id
LEFT JOIN logging_transactions v ON v.transaction_id = c.transaction_id
WHERE (c.device_id, c.stream_id, c.action, 'void')
        IS DISTINCT FROM (l.device_id, l.stream_id, l.first_scan, l.repository)
   OR (v.device_id, v.history_rows > 0) IS DISTINCT FROM (c.device_id, true)
ORDER BY c.action, l.first_scan"""

_REINSERTIONS = """
SELECT l.transaction_id, r.ledger_id FROM reinsertions r
FULL JOIN (SELECT transaction_id, device_id FROM logging_transactions
           WHERE history_rows > 0 AND stream_id = 0) l ON l.transaction_id = r.ledger_id
LEFT JOIN logging_streams s ON s.device_id = r.device_id AND s.stream_id = r.stream_id AND s.stream_id <> 0
WHERE l.device_id IS DISTINCT FROM r.device_id OR s.stream_id IS NULL
ORDER BY 1, 2"""


def check_transactions(connection: Connection[Any], check: Check) -> None:
    """I1: each transaction has its rows, each process its transactions."""
    check.unit = "transactions"
    check.checked = count_of(connection, "SELECT count(*) FROM logging_transactions")
    for row in connection.execute(_TORN.encode()):
        transaction_id, history, has_history, process, has_process, other, other_times = row
        if history is None:
            found = f"{has_history} history and {has_process} process rows"
            check.violated(f"transaction {transaction_id} is not in the ledger: {found}")
            continue
        check.violated(
            f"transaction {transaction_id}: ledger says {history} history and {process} process rows, there "
            f"are {has_history} and {has_process}{', of another process' if other else ''}"
            + (", of other times" if other_times else "")
            + (", unlike each other" if (history, process) == (has_history, has_process) else "")
        )
    for process_id, first_scan, ended_at, true_first, true_last in connection.execute(_EXECUTIONS.encode()):
        check.violated(
            f"process {process_id}: from scan {first_scan}, {'ended' if ended_at else 'not ended'}; its "
            f"transactions have scans {true_first} to {true_last}, or its times are not theirs"
        )
    _check_expired(connection, check)


def _check_expired(connection: Connection[Any], check: Check) -> None:
    """All that is missing is what was counted when its partition was taken out."""
    for parent, partitions, rows, all_counted in connection.execute(_OUT).fetchall():
        column = {_HISTORY: "history_rows", _POINTS: "process_rows"}.get(parent)
        if column is None:
            check.violated(f"expired_partitions names a table {parent!r} that has none")
            continue
        missing = count_of(
            connection,
            _MISSING.format(column=column, parent=parent, may_be_expired=may_be_expired(parent)),
        )
        if missing < rows if all_counted is False else missing != rows:
            check.violated(
                f"{parent}: {missing} rows are missing, {partitions} expired partitions had {rows}"
            )


def check_records(connection: Connection[Any], check: Check) -> None:
    """I3: gaps, voids and re-insertions are what the ledger has of them."""
    for transaction_id, first, last, true_first, true_last in connection.execute(_GAPS):
        check.violated(
            f"transaction {transaction_id}: gap record of scans {first} to {last}, ledger has a gap of "
            f"{true_first} to {true_last}"
        )
    for ledger_id, voided, entered in connection.execute(_VOIDS):
        check.violated(
            f"void {ledger_id} of transaction {voided} does not agree with the ledger"
            if ledger_id
            else f"transaction {entered} is a void in the ledger and nowhere else"
        )
    for entered, ledger_id in connection.execute(_REINSERTIONS):
        check.violated(f"transaction {ledger_id or entered}: the ledger does not agree with `reinsertions`")
