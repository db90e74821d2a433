"""I2: current values are those of the newest usable row that counts."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from bench.oracle.invariants import Check
from bench.oracle.stored_rows import count_of, is_out
from plcsim.config import DeviceConfig

_HISTORY = "parameter_value_history"

_SYNCHRONIZED = """
SELECT DISTINCT device_id FROM (
    SELECT device_id, first_value(repository) OVER (PARTITION BY device_id ORDER BY logged_at DESC) AS now
    FROM logging_transactions WHERE history_rows > 0) latest
WHERE now = 'synchronizing'"""

# A current value, of whatever device, must be a usable row that counts and that a synchronizing
# transaction stored (or, where something newer was voided, any), its last attempt any row that counts.
# Where a device is logged through the synchronizing repository, both the newest.
_STALE = f"""
WITH newest AS (
    SELECT device_id, parameter_id, max(scan) AS attempt,
        max(scan) FILTER (WHERE quality >= 64 AND num_nonnulls(value, value_text) > 0) AS usable
    FROM {_HISTORY} h
    WHERE device_id = ANY(%(devices)s)
      AND NOT EXISTS (SELECT FROM compensations v WHERE v.transaction_id = h.transaction_id)
    GROUP BY 1, 2
), fallen AS (
    SELECT DISTINCT device_id FROM compensations
), shown AS MATERIALIZED (
    SELECT device_id, parameter_id, scan, recorded_at, value, value_text, set_value, quality,
        transaction_id,
        repository = 'synchronizing' OR device_id IN (SELECT device_id FROM fallen) AS synchronized
    FROM (SELECT device_id, updated_at AS recorded_at FROM component_parameters
          UNION SELECT device_id, last_attempt_at FROM component_parameters) moment
    JOIN {_HISTORY} h USING (device_id, recorded_at)
    LEFT JOIN (SELECT transaction_id, repository FROM logging_transactions) l USING (transaction_id)
    WHERE NOT EXISTS (SELECT FROM compensations v WHERE v.transaction_id = h.transaction_id)
), current AS (
    SELECT c.*,
        {is_out("c.updated_at")} AND EXISTS (
            SELECT FROM logging_transactions l WHERE l.transaction_id = c.transaction_id
              AND l.device_id = c.device_id AND l.repository = 'synchronizing'
              AND c.updated_at >= coalesce(l.first_recorded_at, '-infinity')
              AND c.updated_at <= coalesce(l.last_recorded_at, l.logged_at)
              AND NOT EXISTS (SELECT FROM compensations v WHERE v.transaction_id = l.transaction_id)
        ) AS value_out,
        {is_out("c.last_attempt_at")} AS attempt_out
    FROM component_parameters c
)
SELECT DISTINCT c.device_id, c.parameter_id, c.current_value, c.scan, n.usable, c.last_attempt_scan, n.attempt
FROM current c LEFT JOIN newest n USING (device_id, parameter_id)
LEFT JOIN shown v ON (v.device_id, v.parameter_id, v.scan, v.recorded_at, v.transaction_id)
        = (c.device_id, c.parameter_id, c.scan, c.updated_at, c.transaction_id)
    AND (v.value, v.value_text) IS NOT DISTINCT FROM (c.current_value, c.current_text)
    AND v.quality >= 64 AND num_nonnulls(v.value, v.value_text) > 0 AND v.synchronized
LEFT JOIN shown a ON (a.device_id, a.parameter_id, a.scan, a.recorded_at, a.quality)
        = (c.device_id, c.parameter_id, c.last_attempt_scan, c.last_attempt_at, c.last_quality)
    AND a.set_value IS NOT DISTINCT FROM c.set_value
WHERE c.device_id = ANY(%(devices)s)
      AND (c.scan <> coalesce(n.usable, 0) AND NOT (value_out AND c.scan > coalesce(n.usable, 0))
           OR c.last_attempt_scan <> coalesce(n.attempt, 0)
              AND NOT (attempt_out AND c.last_attempt_scan > coalesce(n.attempt, 0)))
   OR CASE WHEN c.scan = 0
           THEN num_nonnulls(c.current_value, c.current_text, c.updated_at, c.transaction_id) > 0
           ELSE v.scan IS NULL AND NOT value_out END
   OR CASE WHEN c.last_attempt_scan = 0
           THEN num_nonnulls(c.set_value, c.last_attempt_at) > 0 OR c.last_quality <> 32
           ELSE a.scan IS NULL AND NOT attempt_out END
ORDER BY 1, 2"""

_PARAMETERS = """
SELECT device_id, parameter_id, component, name, unit, low_limit, high_limit FROM component_parameters"""


def check_current_values(connection: Connection[Any], check: Check, devices: dict[str, DeviceConfig]) -> None:
    """I2: current values are those of the newest usable row that counts."""
    check.unit = "parameters"
    synchronized = [device for (device,) in connection.execute(_SYNCHRONIZED)]
    check.checked = count_of(
        connection, "SELECT count(*) FROM component_parameters WHERE device_id = ANY(%s)", synchronized
    )
    if not synchronized:
        check.not_applicable = "no device is logged through the synchronizing repository"
    for device, parameter, value, scan, usable, attempt, newest in connection.execute(
        _STALE.encode(), {"devices": synchronized}
    ):
        check.violated(
            f"parameter {parameter} of {device}: current value {value} of scan {scan}, last attempt in scan "
            f"{attempt}" + (f"; newest in history {usable} and {newest}" if device in synchronized else "")
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
