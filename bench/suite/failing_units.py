"""Units of work that are made to fail after each of their steps, and what is left of them.

A unit inserts quarantined scans again, in several transactions. The failure is the database's own: a check
on the table refuses the first scan of the next transaction for good, or a trigger ends the session there, as
a crash would. What must hold is written down here once more, by counting rows, not by asking the unit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from bench.load.scan_source import PrecomputedScans
from bench.suite.crowd import crowd_device
from logger.database.reinsertion import Reinsertable, ReinsertionReport, reinsert
from logger.errors import DatabaseUnreachable
from logger.scan import Gap, ScanLayout, StreamKey, batch_of

REFUSED, KILLED = "refused for good", "session killed"
SCANS = 2
"""Of each transaction of a unit."""
_BY = "plcbench"

_STANDING = """
SELECT count(DISTINCT ledger_id), count(*) FROM reinsertions r
WHERE scan = ANY(%s) AND NOT EXISTS (SELECT FROM compensations c WHERE c.transaction_id = r.ledger_id)"""
_UNDONE = """
SELECT count(*), count(*) FILTER (WHERE reason LIKE 'unit of work undone: %%' AND voided_by = %s)
FROM compensations c WHERE EXISTS (SELECT FROM reinsertions r
    WHERE r.ledger_id = c.transaction_id AND r.scan = ANY(%s))"""
_CURRENT = """
SELECT array_agg(ROW(parameter_id, scan, current_value)::text ORDER BY parameter_id)
FROM component_parameters WHERE device_id = %s"""
_CHECK = "ALTER TABLE parameter_value_history ADD CONSTRAINT plcbench_poison CHECK (scan <> {scan}) NOT VALID"
_TRIGGER = """
CREATE FUNCTION plcbench_kill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
CREATE TRIGGER plcbench_kill BEFORE INSERT ON parameter_value_history
    FOR EACH ROW WHEN (NEW.scan = {scan}) EXECUTE FUNCTION plcbench_kill()"""
_HEAL = {
    REFUSED: "ALTER TABLE parameter_value_history DROP CONSTRAINT plcbench_poison",
    KILLED: "DROP FUNCTION plcbench_kill CASCADE",
}


@dataclass
class UnitCase:
    """One unit that failed after one of its steps."""

    how: str
    step: int
    """Transactions that were committed before the failure."""
    undone: int = 0
    recorded: int = 0
    """Of them with the reason and the name."""
    failed_ms: float = 0.0
    """Of the call that failed, undoing included."""
    done_ms: float = 0.0
    """Of the call that stored everything, the cause being gone."""
    wrong: list[str] = field(default_factory=list)
    """What does not hold, in words."""

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    def to_json(self) -> dict[str, Any]:
        return {
            "how": self.how,
            "step": self.step,
            "undone": self.undone,
            "recorded": self.recorded,
            "failed_ms": round(self.failed_ms, 1),
            "done_ms": round(self.done_ms, 1),
            "wrong": self.wrong,
        }


class FailingUnits:
    """One stream whose scans are refused, go into units of work, and come back after all.

    `owner` changes the tables, `connect` gives an operator a new session. The stream is one of an arm of
    ours, its device is number 0 of the crowd's.
    """

    def __init__(self, owner: Connection[Any], connect: Any, repository: Any, parameters: int) -> None:
        self._owner, self._connect = owner, connect
        config = crowd_device(parameters, 0)
        self._layout, self._source = ScanLayout(config), PrecomputedScans(config)
        self._key = StreamKey(self._layout.device_id, 1)
        self._stream = repository.open(self._key, self._layout.recipe)
        self.rows = 0
        """Of history that must be there in the end."""
        self._store(2)

    def fail(self, how: str, step: int, transactions: int) -> UnitCase:
        """Let a unit of so many transactions fail after one of them; then remove the cause and do it again.

        Raises DatabaseError.
        """
        case = UnitCase(how, step)
        unit = self._refused(transactions)
        numbers = [each.number for each in unit]
        if how == KILLED:
            self._store(1)  # what is inserted again is older than what stands now; refused, it is the newest
        before = self._current()
        with self._poisoned(how, unit[step * SCANS].number):
            for attempt in (1, 2):
                began = time.perf_counter()
                report = self._insert(unit)
                case.failed_ms = case.failed_ms or 1000 * (time.perf_counter() - began)
                self._check_failed(case, report, numbers, attempt)
            case.check(self._current() == before, "current values have changed")
        began = time.perf_counter()
        report = self._insert(unit)
        case.done_ms = 1000 * (time.perf_counter() - began)
        kept = step * SCANS if how == KILLED else 0
        done = report is not None and report.is_done and report.stored == len(unit) - kept
        case.check(done, "the unit was not stored with the cause gone")
        case.check(self._standing(numbers) == (transactions, len(unit)), "it does not stand once, and whole")
        again = self._insert(unit)
        idle = again is not None and again.is_done and (again.stored, again.already) == (0, len(unit))
        case.check(idle, "doing it once more was not without effect")
        case.check(self._standing(numbers) == (transactions, len(unit)), "once more left it otherwise")
        undone, _ = self._compensations(numbers)
        self.rows += self._layout.size * (len(unit) + undone * SCANS)
        return case

    def _check_failed(
        self, case: UnitCase, report: ReinsertionReport | None, numbers: Sequence[int], attempt: int
    ) -> None:
        standing, scans = self._standing(numbers)
        undone, recorded = self._compensations(numbers)
        if case.how == KILLED:
            case.check(report is None, "nobody was told that the session ended")
            case.check(
                (standing, scans) == (case.step, case.step * SCANS), "more or less stands than before it"
            )
            case.check(undone == 0, "something was voided although the unit may still be finished")
            return
        case.check(report is not None and bool(report.error), "the refusal was not reported")
        case.check((standing, scans) == (0, 0), f"after try {attempt} something of it stands")
        case.check(undone == attempt * case.step, f"after try {attempt} {undone} transactions are voided")
        case.check(recorded == undone, "a void does not say why, or by whom")
        if attempt == 1:
            case.undone, case.recorded = undone, recorded

    def _refused(self, transactions: int) -> list[Reinsertable]:
        """Scans that the database did not take: gaps stand in their places."""
        found = []
        for _ in range(transactions * SCANS):
            number = self._stream.head.last_scan + 1
            self._stream.record_gap(Gap(number, number, "refused by the database"))
            found.append(Reinsertable(self._key, number, self._source.next(number)))
        return found

    def _store(self, scans: int) -> None:
        for _ in range(scans):
            scan = self._source.next(self._stream.head.last_scan + 1)
            self._stream.store(batch_of([scan], self._layout))
            self.rows += self._layout.size

    def _insert(self, unit: Sequence[Reinsertable]) -> ReinsertionReport | None:
        """None: the session was lost."""
        with self._connect() as connection:
            try:
                return reinsert(connection, unit, _BY, max_rows=SCANS * self._layout.size)
            except DatabaseUnreachable:
                return None

    @contextmanager
    def _poisoned(self, how: str, scan: int) -> Iterator[None]:
        self._owner.execute((_CHECK if how == REFUSED else _TRIGGER).format(scan=scan).encode())
        try:
            yield
        finally:
            self._owner.execute(_HEAL[how].encode())

    def _standing(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Transactions of the unit that count, and their scans."""
        return self._two(_STANDING, (list(numbers),))

    def _compensations(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Transactions of the unit that were voided, and those whose record says why and by whom."""
        return self._two(_UNDONE, (_BY, list(numbers)))

    def _two(self, query: str, given: tuple[Any, ...]) -> tuple[int, int]:
        row = self._owner.execute(query.encode(), given).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def _current(self) -> Any:
        row = self._owner.execute(_CURRENT, (self._key.device_id,)).fetchone()
        assert row is not None
        return row[0]
