"""Repositories that store as the product does, by a statement for each table: what one statement saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from psycopg import Connection

from bench.strategies import statements
from bench.strategies.stepwise import StepwiseRepository, Values, general_update
from bench.strategies.updates import ArrayJoin
from logger.repositories import Stream
from logger.repositories.prepared import Session, error_of
from logger.repositories.transaction import Step, Transaction, too_few_rows
from logger.scan import Batch, Gap


class TwoTablesSeveral(StepwiseRepository):
    """The baseline's tables, each by a statement of its own, sent in one go."""

    name = "baseline"

    def batch_steps(self, batch: Batch, stored: Step) -> list[Step]:
        return _table_by_table(batch, stored)


class SeveralStatements(StepwiseRepository):
    """The synchronizing repository's tables, each by a statement of its own, sent in one go."""

    def batch_steps(self, batch: Batch, stored: Step) -> list[Step]:
        steps = _table_by_table(batch, stored)
        if not batch.last_scan_is_good or batch.texts:
            return [*steps, general_update(batch, stored.values)]
        return [*steps, *ArrayJoin.update_steps_of(batch, stored.values)]


class RoundTrips(SeveralStatements):
    """The same, each statement sent when the one before was answered: five more round trips."""

    def store_together(self, work: Sequence[tuple[Stream, Batch | Gap]]) -> None:
        """Store one item of one stream; raises as every repository's, and ValueError for more."""
        if len(work) != 1:
            raise ValueError("round_trips stores one item at a time")
        ((stream, item),) = work
        stream.attempted, stream.is_certain = None, True
        steps, after = stream.steps(item, stream.standing)
        stream.attempted = after.head
        with self._session() as session:
            transaction = _OneByOne(session)
            try:
                transaction.run_together(steps)
            except BaseException:
                stream.is_certain = transaction.is_certain
                raise
        stream.standing = after


class _OneByOne(Transaction):
    """Waits for each answer before it sends the next statement."""

    def run_together(self, steps: Sequence[Step]) -> None:
        session = self._session
        prepared = [session.prepared(step.statement, step.values) for step in steps]
        try:
            begun = session.pgconn.exec_(b"BEGIN")
            if begun.command_status != b"BEGIN":
                raise error_of(session.pgconn, begun)
            self.tick()
            for one, step in zip(prepared, steps, strict=True):
                step.check(one.run(step.values))
                self.tick()
        except BaseException:
            self._roll_back()
            raise
        self.commit()
        self.tick()

    def tick(self) -> None:
        """Something was answered."""


class Timed:
    """Runs steps one by one and says how long each took; of one connection."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._session = Session(connection)

    def run(self, steps: Sequence[Step]) -> list[int]:
        """Nanoseconds of the begin, of each step and of the commit. Raises as Transaction.run_together."""
        transaction = _Ticking(self._session)
        transaction.run_together(steps)
        at = transaction.at_ns
        return [after - before for before, after in pairwise(at)]


class _Ticking(_OneByOne):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.at_ns: list[int] = []

    def run_together(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._session.prepared(step.statement, step.values)
        self.tick()
        super().run_together(steps)

    def tick(self) -> None:
        self.at_ns.append(time.perf_counter_ns())


def _table_by_table(batch: Batch, stored: Step) -> list[Step]:
    """The baseline's single step as one a table, each with its count checked."""
    values, rows, texts = stored.values, len(batch.value), bool(batch.texts)
    steps = [
        Step(statements.ADVANCE, values, stored.check),
        Step(statements.LEDGER, values, _exactly(1)),
        Step(statements.rows_into("parameter_value_history", texts), values, _exactly(rows)),
    ]
    if _has_process(values):
        table = "process_data_points"
        steps.append(Step(statements.rows_into(table, texts), values, _exactly(rows)))
    return steps


def _has_process(values: Values) -> bool:
    return values["process_id"] is not None


def _exactly(rows: int) -> Callable[[int], None]:
    def check(count: int) -> None:
        if count != rows:
            raise too_few_rows()

    return check
