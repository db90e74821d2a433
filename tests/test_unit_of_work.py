"""Units of work that are interrupted anywhere, meet others or fail for good: all is stored, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from fix_postgres import Schema
from fix_refused import STANDING, Refused, refusing
from psycopg import OperationalError

from logger.database.operators import turn
from logger.database.reinsertion import ReinsertionReport
from logger.database.unit_of_work import Unit
from logger.errors import DatabaseError, DatabaseUnreachable


class Interrupted:
    """A connection whose server process is killed before its n-th statement."""

    def __init__(self, schema: Schema, after: int) -> None:
        self.connection = schema.connect()
        self.left, self.landed = after, False
        execute = self.connection.execute

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.landed = True
                schema.rows("SELECT pg_terminate_backend(%s)", self.connection.info.backend_pid)
            return execute(*args, **kwargs)

        self.connection.execute = counted  # type: ignore[method-assign]


def interrupted_everywhere(refused: Refused) -> int:
    """Units of work, with a crash before each statement in turn, done again; returns how many crashed."""
    for statement in range(1, 200):
        broken, before = Interrupted(refused.schema, statement), refused.schema.value(STANDING)
        with suppress(DatabaseUnreachable):
            refused.insert(connection=broken.connection)
        report = refused.insert()
        assert refused.schema.value(STANDING) - before == (4 if report.is_done else 0)
        if not broken.landed:
            return statement - 1
        broken.connection.close()
        newest = refused.stream.head.last_scan
        refused.quarantine.clear()
        refused.log(*refused.oven.run_of(newest + 1, newest + 4), refused=range(newest + 1, newest + 5))
    raise AssertionError("it never ended")


def test_a_crash_before_any_statement_is_finished_by_doing_it_again(refused: Refused) -> None:
    assert interrupted_everywhere(refused) > 40
    refused.check()


def test_a_crash_before_any_statement_of_a_unit_that_fails_is_undone_by_doing_it_again(
    refused: Refused,
) -> None:
    with refusing(refused.schema):
        assert interrupted_everywhere(refused) > 40
        refused.check()


def test_a_commit_whose_answer_is_lost_is_found_by_doing_it_again(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def unanswered(*args: Any) -> Iterator[Any]:
        with turn(*args) as mine:
            yield mine
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as lost:
        lost.setattr("logger.database.unit_of_work.turn", unanswered)
        with pytest.raises(DatabaseUnreachable):
            refused.insert()
    assert refused.schema.value(STANDING) == 2
    report = refused.insert()
    assert (report.stored, report.already, len(report.transactions)) == (2, 2, 2)
    refused.check()


def test_without_ids_that_follow_from_the_unit_a_crash_would_be_noticed(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the tests above rely on, taken out."""
    monkeypatch.setattr(Unit, "_standing", lambda unit: [])
    with refusing(refused.schema), pytest.raises(AssertionError):
        interrupted_everywhere(refused)


@pytest.mark.parametrize("is_protected", [True, False], ids=["as it is", "two units at once"])
def test_no_unit_counts_on_scans_that_another_may_undo(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, is_protected: bool
) -> None:
    """Another operator inserts 4 and 5 while a unit of 4 to 7 that has failed is about to undo them."""
    if not is_protected:
        monkeypatch.setattr("logger.database.reinsertion._alone", lambda connection: nullcontext())
    monkeypatch.setattr("logger.database.operators._TRIES", 1)
    another, undone = refused.schema.connect(), Unit._undone
    another.execute("SET lock_timeout = '50ms'")
    met: list[ReinsertionReport | Exception] = []

    def undone_later(unit: Unit, failure: Exception) -> ReinsertionReport:
        try:
            met.append(refused.insert(4, 5, connection=another))
        except DatabaseError as exc:
            met.append(exc)
        return undone(unit, failure)

    monkeypatch.setattr(Unit, "_undone", undone_later)
    with refusing(refused.schema):
        assert not refused.insert().is_done
    (other,) = met
    believed_stored = isinstance(other, ReinsertionReport) and other.is_done
    assert believed_stored is not is_protected
    assert refused.schema.value(STANDING) == 0
    assert refused.insert(4, 5, connection=another).stored == 2
    refused.check()
