"""One transaction that is made to fail in each of its steps: nothing of it may be left.

The database refuses the rows of one table after the other: the stream's row, the ledger, history, the
process's rows, current values. With the cause gone the same batch goes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from bench.load.failures import DATABASE_ERRORS
from bench.load.scan_source import PrecomputedScans
from bench.suite.crowd import crowd_device
from logger.scan import ScanLayout, StreamKey, batch_of

STEPS = {
    "stream's row": ("logging_streams", "last_scan <> {scan}"),
    "ledger": ("logging_transactions", "last_scan <> {scan}"),
    "history": ("parameter_value_history", "scan <> {scan}"),
    "process rows": ("process_data_points", "scan <> {scan}"),
    "current values": ("component_parameters", "last_attempt_scan <> {scan}"),
}
"""Each step, its table, and the check that makes it fail at a scan."""
_ROWS = """
SELECT (SELECT last_scan FROM logging_streams WHERE device_id = %(device)s AND stream_id = %(stream)s),
    (SELECT count(*) FROM logging_transactions), (SELECT count(*) FROM parameter_value_history),
    (SELECT count(*) FROM process_data_points),
    (SELECT count(*) FROM component_parameters
     WHERE last_attempt_scan >= %(scan)s AND device_id = %(device)s)"""


@dataclass
class StepCase:
    """One transaction that failed in one step."""

    step: str
    has_step: bool = True
    """Whether the repository writes that table at all."""
    wrong: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "has_step": self.has_step, "wrong": self.wrong}


def fail_each_step(owner: Connection[Any], repository: Any, parameters: int, device: int) -> list[StepCase]:
    """Let a transaction fail in each step in turn, on a device of the crowd's; raises DatabaseError.

    Stores one scan more than there are steps.
    """
    config = crowd_device(parameters, device)
    layout, source = ScanLayout(config), PrecomputedScans(config)
    key = StreamKey(layout.device_id, 1)
    stream = repository.open(key, layout.recipe)
    stream.store(batch_of([source.next(1)], layout))
    cases = []
    for step, (table, check) in STEPS.items():
        case, scan = StepCase(step), stream.head.last_scan + 1
        names = {"device": key.device_id, "stream": key.stream_id, "scan": scan}
        before = owner.execute(_ROWS, names).fetchone()
        poison = f"ALTER TABLE {table} ADD CONSTRAINT plcbench_poison CHECK ({check.format(scan=scan)})"
        owner.execute(f"{poison} NOT VALID".encode())
        try:
            stream.store(batch_of([source.next(scan)], layout))
            case.has_step = False
        except DATABASE_ERRORS:
            if owner.execute(_ROWS, names).fetchone() != before:
                case.wrong.append("something of the failed transaction is there")
            if stream.head.last_scan != scan - 1 or not stream.is_certain:
                case.wrong.append("the stream does not say that nothing was stored")
        finally:
            owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT plcbench_poison".encode())
        if case.has_step:
            stream.store(batch_of([source.next(scan)], layout))
        cases.append(case)
    return cases
