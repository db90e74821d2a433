"""Strategies that differ in how they update current values, and in nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from psycopg import Connection
from psycopg.types.numeric import Int4
from psycopg_pool import ConnectionPool

from bench.strategies import statements
from bench.strategies.stepwise import UpdateStrategy, Values, unchecked
from logger.repositories.prepared import Session
from logger.repositories.transaction import Step
from logger.repositories.wire import Float8Array, Int4Array, Timestamptz, TimestamptzArray
from logger.scan import Batch


class ArrayJoin(UpdateStrategy):
    """One UPDATE joined with arrays, in a statement of its own."""

    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        return self.update_steps_of(batch, values)

    @staticmethod
    def update_steps_of(batch: Batch, values: Values) -> Sequence[Step]:
        """The same without a repository."""
        return [Step(statements.GOOD_ARRAY_JOIN, {**values, **_now(batch)}, unchecked)]


class SkipUnchanged(UpdateStrategy):
    """The same, but a row whose value, set value and quality stand already is left alone.

    So `scan` and `updated_at` say since when it stands, not when it was last read: I2 does not hold.
    """

    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        return [Step(statements.SKIP_UNCHANGED, {**values, **_now(batch)}, unchecked)]


class TemporaryTable(UpdateStrategy):
    """The values go into a temporary table, the UPDATE joins it.

    The table is made once a connection and empty after each commit: one made and dropped each time
    would cost rows in the catalog besides.
    """

    def __init__(self, connections: Connection[Any] | ConnectionPool[Any]) -> None:
        super().__init__(connections)
        self._have_it: WeakSet[Connection[Any]] = WeakSet()

    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        return [
            Step(statements.FILL_TEMPORARY, _now(batch), unchecked),
            Step(statements.FROM_TEMPORARY, values, unchecked),
        ]

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with super()._session() as session:
            if session.connection not in self._have_it:
                session.connection.execute(statements.CREATE_TEMPORARY)
                self._have_it.add(session.connection)
            yield session


class InCase(UpdateStrategy):
    """One UPDATE with the ids in IN and each value in a CASE over the ids."""

    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        last = batch.parameters
        times = batch.recorded_at[-last:]
        more = dict(values)
        for place, (value, set_value) in enumerate(_pairs(batch)):
            more[f"value_{place}"], more[f"set_{place}"] = value, set_value
        at_once = bool((times == times[0]).all())
        for place, time in enumerate(times[:1] if at_once else times):
            more[f"at_{place}"] = Timestamptz(int(time))
        statement = statements.in_case(tuple(batch.parameter_id[-last:].tolist()), at_once)
        return [Step(statement, more, unchecked)]


class RowByRow(UpdateStrategy):
    """An UPDATE for each parameter, all sent in one go: else each would wait for the answer before."""

    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        last = batch.parameters
        shared = {key: values[key] for key in ("last_scan", "transaction_id", "device_id")}
        rows = zip(batch.parameter_id[-last:].tolist(), batch.recorded_at[-last:].tolist(), _pairs(batch),
                   strict=True)  # fmt: skip
        return [
            Step(
                statements.ONE_ROW,
                {
                    **shared,
                    "one_id": Int4(number),
                    "one_at": Timestamptz(at),
                    "one_value": value,
                    "one_set": set_value,
                },
                unchecked,
            )
            for number, at, (value, set_value) in rows
        ]


def _now(batch: Batch) -> dict[str, Any]:
    """The last scan's rows as arrays."""
    last = batch.parameters
    return {
        "now_id": Int4Array(batch.parameter_id[-last:]),
        "now_at": TimestamptzArray(batch.recorded_at[-last:]),
        "now_value": Float8Array(batch.value[-last:]),
        "now_set": Float8Array(batch.set_value[-last:]),
    }


def _pairs(batch: Batch) -> list[tuple[float | None, float | None]]:
    """(value, set value) of each parameter in the last scan; None for what is not there."""
    last = batch.parameters
    values, set_values = batch.value[-last:].tolist(), batch.set_value[-last:].tolist()
    return [(_or_none(v), _or_none(s)) for v, s in zip(values, set_values, strict=True)]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
