"""The oracle: checks what a logger stored against the invariants I1 to I6, and counts violations.

The truth comes from `plcsim.truth`, the configuration of each device from the database itself. The
statements in `_STATEMENTS` look at whole tables; `bench.stream_check` reads each stream row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from bench.stream_check import StreamCheck
from logger.database import stored_devices
from plcsim.truth import Write

INVARIANTS = {
    "I1": "each transaction has exactly its rows in history and process tables",
    "I2": "current values are those of the newest good history row",
    "I3": "scans and gaps of each stream are contiguous, without overlap",
    "I4": "each value is what the PLC served at the PLC scan that it carries",
    "I5": "no scan is stored twice, none is missing",
    "I6": "the hash chain of each stream verifies",
}


@dataclass
class Check:
    """What one invariant showed."""

    invariant: str
    checked: int = 0
    """Things looked at: transactions, parameters, scans or values, as `unit` says."""
    unit: str = ""
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few violations in words."""
    not_applicable: str = ""
    """Why it could not be checked; empty if it was."""

    @property
    def title(self) -> str:
        return INVARIANTS[self.invariant]


@dataclass
class Verification:
    """All checks of one schema."""

    checks: dict[str, Check]
    rows: int = 0
    """History rows that were read."""

    @property
    def violations(self) -> int:
        return sum(check.violations for check in self.checks.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "violations": self.violations,
            "invariants": {
                name: {
                    "checked": c.checked,
                    "unit": c.unit,
                    "violations": c.violations,
                    "examples": c.examples,
                    "not_applicable": c.not_applicable,
                }
                for name, c in self.checks.items()
            },
        }


_TORN = """
SELECT l.transaction_id, l.history_rows, h.rows, l.process_rows, p.rows, coalesce(p.wrong, 0)
FROM logging_transactions l
FULL JOIN (SELECT transaction_id, count(*) AS rows FROM parameter_value_history GROUP BY 1) h
    USING (transaction_id)
FULL JOIN (
    SELECT p.transaction_id, count(*) AS rows,
        count(*) FILTER (WHERE h.scan IS NULL) AS wrong
    FROM process_data_points p
    LEFT JOIN parameter_value_history h ON (h.transaction_id, h.scan, h.parameter_id, h.quality)
            = (p.transaction_id, p.scan, p.parameter_id, p.quality)
        AND h.value IS NOT DISTINCT FROM p.value AND h.set_value IS NOT DISTINCT FROM p.set_value
        AND h.recorded_at = p.recorded_at AND h.stream_id = p.stream_id
    GROUP BY 1) p
    USING (transaction_id)
WHERE l.transaction_id IS NULL OR l.history_rows <> coalesce(h.rows, 0)
   OR l.process_rows <> coalesce(p.rows, 0) OR coalesce(p.wrong, 0) <> 0
   OR (l.process_id IS NULL) <> (l.process_rows = 0)"""

_SYNCHRONIZED = """
SELECT DISTINCT device_id FROM (
    SELECT device_id, first_value(repository) OVER (PARTITION BY device_id ORDER BY logged_at DESC) AS now
    FROM logging_transactions WHERE history_rows > 0) latest
WHERE now = 'synchronizing'"""

_STALE = """
WITH newest AS (
    SELECT device_id, parameter_id, max(scan) AS scan FROM parameter_value_history
    WHERE quality >= 192 AND device_id = ANY(%(devices)s) GROUP BY 1, 2
)
SELECT c.device_id, c.parameter_id, c.current_value, c.scan, n.scan, h.value
FROM component_parameters c
LEFT JOIN newest n USING (device_id, parameter_id)
LEFT JOIN parameter_value_history h ON h.device_id = c.device_id AND h.parameter_id = c.parameter_id
    AND h.scan = n.scan AND h.transaction_id = c.transaction_id
WHERE c.device_id = ANY(%(devices)s)
  AND (c.scan IS DISTINCT FROM coalesce(n.scan, 0) OR c.current_value IS DISTINCT FROM h.value
       OR c.updated_at IS DISTINCT FROM h.recorded_at)"""

_STREAMS = "SELECT device_id, stream_id, last_scan, head_hash FROM logging_streams ORDER BY 1, 2"

_MOST_EXAMPLES = 3


def verify(connection: Connection[Any], writes: Sequence[Write] = ()) -> Verification:
    """Check everything in the connection's schema.

    `writes` are what clients wrote to the emulated PLCs; without them a written set value counts as
    wrong. The connection must not be used by anybody else meanwhile.
    """
    checks = {name: Check(name) for name in INVARIANTS}
    verification = Verification(checks)
    with connection.transaction():
        # one snapshot for everything, so that a logger at work does not look like a violation
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for setting, value in (("statement_timeout", "0"), ("work_mem", "256MB")):
            connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
        configurations = {config.device.device_id: config for config in stored_devices(connection)}
        _check_transactions(connection, checks["I1"])
        _check_current_values(connection, checks["I2"])
        for device_id, stream_id, last_scan, head_hash in connection.execute(_STREAMS).fetchall():
            stream = StreamCheck(configurations[device_id], stream_id, checks, writes)
            verification.rows += stream.run(connection, last_scan, bytes(head_hash))
    return verification


def _check_transactions(connection: Connection[Any], check: Check) -> None:
    check.unit = "transactions"
    check.checked = _count(connection, "SELECT count(*) FROM logging_transactions")
    for transaction_id, history, has_history, process, has_process, wrong in connection.execute(_TORN):
        check.violations += 1
        if len(check.examples) < _MOST_EXAMPLES:
            check.examples.append(
                f"transaction {transaction_id}: ledger says {history} history and {process} process rows, "
                f"there are {has_history or 0} and {has_process or 0}, {wrong} of them unlike history"
            )


def _check_current_values(connection: Connection[Any], check: Check) -> None:
    check.unit = "parameters"
    devices = [device for (device,) in connection.execute(_SYNCHRONIZED)]
    if not devices:
        check.not_applicable = "no device is logged through the synchronizing repository"
        return
    check.checked = _count(
        connection, "SELECT count(*) FROM component_parameters WHERE device_id = ANY(%s)", devices
    )
    for device, parameter, value, scan, newest, true_value in connection.execute(
        _STALE, {"devices": devices}
    ):
        check.violations += 1
        if len(check.examples) < _MOST_EXAMPLES:
            check.examples.append(
                f"parameter {parameter} of {device}: current value {value} of scan {scan}, newest good "
                f"history row {true_value} of scan {newest}"
            )


def _count(connection: Connection[Any], statement: str, *parameters: object) -> int:
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return int(row[0])
