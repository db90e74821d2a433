"""The oracle: checks what a logger stored against the invariants I1 to I6, and counts violations.

The truth comes from `plcsim.truth`, the configuration of each device from the database itself. The
statements below look at whole tables; `bench.stream_check` reads each stream row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import Connection

from bench.invariants import INVARIANTS, Check, Verification
from bench.stream_check import StreamCheck
from logger.streams import StreamHead
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device
from plcsim.errors import ConfigError
from plcsim.truth import Write

# All rows of a transaction are of one process or none, so its process rows are its history rows: the
# sums of the rows' hashes tell, ten times as fast as a join of both tables.
_CONTENT = """sum(hash_record_extended(ROW(device_id, stream_id, scan, parameter_id, recorded_at, value,
    set_value, quality), 0))"""
_TORN = f"""
WITH history AS (
    SELECT transaction_id, count(*) AS rows, {_CONTENT} AS content
    FROM parameter_value_history GROUP BY 1
), part AS (
    SELECT transaction_id, process_id, count(*) AS rows, {_CONTENT} AS content
    FROM process_data_points GROUP BY 1, 2
), process AS (
    SELECT transaction_id, sum(rows) AS rows, sum(content) AS content, array_agg(process_id) AS ids
    FROM part GROUP BY 1
)
SELECT transaction_id, l.history_rows, coalesce(h.rows, 0), l.process_rows, coalesce(p.rows, 0),
    coalesce(p.ids <> ARRAY[l.process_id], false)
FROM logging_transactions l
FULL JOIN history h USING (transaction_id)
FULL JOIN process p USING (transaction_id)
WHERE l.transaction_id IS NULL
   OR l.history_rows <> coalesce(h.rows, 0) OR l.process_rows <> coalesce(p.rows, 0)
   OR l.process_rows <> CASE WHEN l.process_id IS NULL THEN 0 ELSE l.history_rows END
   OR p.content <> h.content OR p.ids <> ARRAY[l.process_id]
ORDER BY l.first_scan, transaction_id"""

_EXECUTIONS = """
WITH run AS (
    SELECT device_id, stream_id, process_id, min(first_scan) AS first_scan, max(last_scan) AS last_scan
    FROM logging_transactions WHERE process_id IS NOT NULL GROUP BY 1, 2, 3
), scan AS (
    SELECT DISTINCT device_id, stream_id, scan, recorded_at FROM parameter_value_history
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
WHERE e.first_scan IS DISTINCT FROM run.first_scan OR (e.ended_at IS NULL) <> (after.scan IS NULL)
   OR NOT EXISTS (SELECT FROM scan s WHERE (s.device_id, s.stream_id, s.scan, s.recorded_at)
                  = (e.device_id, e.stream_id, e.first_scan, e.started_at))
   OR e.ended_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM scan s WHERE (s.device_id, s.stream_id, s.scan, s.recorded_at)
                       = (e.device_id, e.stream_id, after.scan, e.ended_at))"""

_SYNCHRONIZED = """
SELECT DISTINCT device_id FROM (
    SELECT device_id, first_value(repository) OVER (PARTITION BY device_id ORDER BY logged_at DESC) AS now
    FROM logging_transactions WHERE history_rows > 0) latest
WHERE now = 'synchronizing'"""

# A current value, of whatever device, must be a good row that a synchronizing transaction stored, its
# last attempt any row. Where a device is logged through the synchronizing repository, both the newest.
_STALE = """
WITH newest AS (
    SELECT device_id, parameter_id, max(scan) FILTER (WHERE quality >= 192) AS good, max(scan) AS attempt
    FROM parameter_value_history WHERE device_id = ANY(%(devices)s) GROUP BY 1, 2
), shown AS MATERIALIZED (
    SELECT device_id, parameter_id, scan, recorded_at, value, set_value, quality, transaction_id, repository
    FROM (SELECT device_id, updated_at AS recorded_at FROM component_parameters
          UNION SELECT device_id, last_attempt_at FROM component_parameters) moment
    JOIN parameter_value_history h USING (device_id, recorded_at)
    LEFT JOIN (SELECT transaction_id, repository FROM logging_transactions) l USING (transaction_id)
)
SELECT DISTINCT c.device_id, c.parameter_id, c.current_value, c.scan, n.good, c.last_attempt_scan, n.attempt
FROM component_parameters c LEFT JOIN newest n USING (device_id, parameter_id)
LEFT JOIN shown v ON (v.device_id, v.parameter_id, v.scan, v.recorded_at, v.transaction_id, v.value)
        = (c.device_id, c.parameter_id, c.scan, c.updated_at, c.transaction_id, c.current_value)
    AND v.quality >= 192 AND v.repository = 'synchronizing'
LEFT JOIN shown a ON (a.device_id, a.parameter_id, a.scan, a.recorded_at, a.quality)
        = (c.device_id, c.parameter_id, c.last_attempt_scan, c.last_attempt_at, c.last_quality)
    AND a.set_value IS NOT DISTINCT FROM c.set_value
WHERE c.device_id = ANY(%(devices)s)
      AND (c.scan <> coalesce(n.good, 0) OR c.last_attempt_scan <> coalesce(n.attempt, 0))
   OR CASE WHEN c.scan = 0 THEN num_nonnulls(c.current_value, c.updated_at, c.transaction_id) > 0
           ELSE v.scan IS NULL END
   OR CASE WHEN c.last_attempt_scan = 0
           THEN num_nonnulls(c.set_value, c.last_attempt_at) > 0 OR c.last_quality <> 32
           ELSE a.scan IS NULL END
ORDER BY 1, 2"""

_GAPS = """
SELECT transaction_id, g.first_scan, g.last_scan, l.first_scan, l.last_scan
FROM scan_gaps g
FULL JOIN (SELECT transaction_id, device_id, stream_id, first_scan, last_scan
           FROM logging_transactions WHERE history_rows = 0) l USING (transaction_id)
WHERE (g.device_id, g.stream_id, g.first_scan, g.last_scan)
    IS DISTINCT FROM (l.device_id, l.stream_id, l.first_scan, l.last_scan)
ORDER BY g.first_scan, l.first_scan"""

_STREAMS = """
SELECT device_id, stream_id, s.last_scan, s.head_hash
FROM logging_streams s
FULL JOIN (SELECT DISTINCT device_id, stream_id FROM logging_transactions) l USING (device_id, stream_id)
ORDER BY 1, 2"""

_PARAMETERS = """
SELECT device_id, parameter_id, component, name, unit, low_limit, high_limit FROM component_parameters"""


def verify(
    connection: Connection[Any], writes_to: Callable[[str], Sequence[Write]] = lambda device_id: ()
) -> Verification:
    """Check everything in the connection's schema.

    `writes_to` gives what clients wrote to an emulated PLC, by its device_id, since its last restart;
    without them a written set value counts as wrong. The connection must not be used by anybody else
    meanwhile.
    """
    checks = {name: Check(name) for name in INVARIANTS}
    verification = Verification(checks)
    with connection.transaction():
        # one snapshot for everything, so that a logger at work does not look like a violation
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for setting, value in (
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("work_mem", "256MB"),
        ):
            connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
        devices = _devices(connection, checks["I4"])
        _check_transactions(connection, checks["I1"])
        _check_current_values(connection, checks["I2"], devices)
        _check_gaps(connection, checks["I3"])
        for device_id, stream_id, last_scan, head_hash in connection.execute(_STREAMS).fetchall():
            if device_id not in devices:
                checks["I4"].violated(f"stream {stream_id} of {device_id}: its parameters are not known")
                continue
            stream = StreamCheck(devices[device_id], stream_id, checks, writes_to(device_id))
            head = None if last_scan is None else StreamHead(last_scan, bytes(head_hash))
            verification.rows += stream.run(connection, head)
    return verification


def _devices(connection: Connection[Any], check: Check) -> dict[str, DeviceConfig]:
    """The configurations by device_id; one that is not what was registered tells no truth."""
    devices = {}
    for device_id, data, sha256 in connection.execute(
        "SELECT device_id, configuration, configuration_sha256 FROM devices ORDER BY 1"
    ):
        try:
            config = parse_device(data, f"stored configuration of {device_id}")
        except ConfigError as exc:
            check.violated(str(exc))
            continue
        if (config.device.device_id, config.sha256) != (device_id, sha256):
            check.violated(f"the stored configuration of {device_id} is not the one that was registered")
        if config.device.device_id == device_id:
            devices[device_id] = config
    return devices


def _check_transactions(connection: Connection[Any], check: Check) -> None:
    check.unit = "transactions"
    check.checked = _count(connection, "SELECT count(*) FROM logging_transactions")
    for transaction_id, history, has_history, process, has_process, other in connection.execute(_TORN):
        if history is None:
            found = f"{has_history} history and {has_process} process rows"
            check.violated(f"transaction {transaction_id} is not in the ledger: {found}")
            continue
        check.violated(
            f"transaction {transaction_id}: ledger says {history} history and {process} process rows, there "
            f"are {has_history} and {has_process}{', of another process' if other else ''}"
            + (", unlike each other" if (history, process) == (has_history, has_process) else "")
        )
    for process_id, first_scan, ended_at, true_first, true_last in connection.execute(_EXECUTIONS):
        check.violated(
            f"process {process_id}: from scan {first_scan}, {'ended' if ended_at else 'not ended'}; its "
            f"transactions have scans {true_first} to {true_last}, or its times are not theirs"
        )


def _check_current_values(
    connection: Connection[Any], check: Check, devices: dict[str, DeviceConfig]
) -> None:
    check.unit = "parameters"
    synchronized = [device for (device,) in connection.execute(_SYNCHRONIZED)]
    check.checked = _count(
        connection, "SELECT count(*) FROM component_parameters WHERE device_id = ANY(%s)", synchronized
    )
    if not synchronized:
        check.not_applicable = "no device is logged through the synchronizing repository"
    for device, parameter, value, scan, good, attempt, newest in connection.execute(
        _STALE, {"devices": synchronized}
    ):
        check.violated(
            f"parameter {parameter} of {device}: current value {value} of scan {scan}, last attempt in scan "
            f"{attempt}" + (f"; newest in history {good} and {newest}" if device in synchronized else "")
        )
    described = {(row[0], row[1]): row[2:] for row in connection.execute(_PARAMETERS)}
    expected = {
        (device_id, p.parameter_id): (p.component, p.name, p.unit, *(p.limits or (None, None)))
        for device_id, config in devices.items()
        for p in config.register_map.logged
    }
    for key in sorted(described.keys() | expected.keys()):
        if key[0] in devices and described.get(key) != expected.get(key):
            check.violated(
                f"parameter {key[1]} of {key[0]} is described as {described.get(key)}, registered was "
                f"{expected.get(key)}"
            )


def _check_gaps(connection: Connection[Any], check: Check) -> None:
    for transaction_id, first, last, true_first, true_last in connection.execute(_GAPS):
        check.violated(
            f"transaction {transaction_id}: gap record of scans {first} to {last}, ledger has a gap of "
            f"{true_first} to {true_last}"
        )


def _count(connection: Connection[Any], statement: str, *parameters: object) -> int:
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return int(row[0])
