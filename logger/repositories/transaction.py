"""Several statements in one transaction and two round trips, and the proof that it was committed.

The statements go in one pipeline (libpq's pipeline mode) behind a BEGIN. The COMMIT goes by itself,
once every answer is checked: a commit of a transaction that has failed is answered by the tag
ROLLBACK and no error, so the tag and the status before and after are the proof.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Buffer
from psycopg.pq import ExecStatus, TransactionStatus

from logger.errors import DatabaseError
from logger.repositories.prepared import PreparedStatement, Session, error_of, first_value


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a transaction."""

    statement: str
    values: Mapping[str, Any]
    check: Callable[[int], None]
    """Is told the first column of the only row; raises if the transaction must not be committed."""


class Transaction:
    """Runs steps; `is_certain` says, after an error, whether nothing was stored for certain."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._may_have_committed = self._is_in_doubt = False

    @property
    def is_certain(self) -> bool:
        """Whether a commit was never sent, or the database has said that it did not happen."""
        if self._is_in_doubt:
            return False
        return not self._may_have_committed or self._session.status is TransactionStatus.IDLE

    def run_alone(self, step: Step) -> None:
        """Run one step that is a transaction of its own; raises psycopg.Error, and what its check does."""
        prepared = self._session.prepared(step.statement, step.values)
        self._may_have_committed = True
        with _row_counts():
            answer = prepared.run(step.values)
        step.check(answer)
        self._prove_commit()

    def run_together(self, steps: Sequence[Step]) -> None:
        """Run the steps in their order, all or none; raises as `run_alone`."""
        session = self._session
        prepared = [session.prepared(step.statement, step.values) for step in steps]  # before it begins
        dumped = [one.dump(step.values) for one, step in zip(prepared, steps, strict=True)]
        try:
            answers = self._pipeline(list(zip(prepared, dumped, strict=True)))
            with _row_counts():
                for step, answer in zip(steps, answers, strict=True):
                    step.check(first_value(session.pgconn, answer))
            self._prove(TransactionStatus.INTRANS)
        except BaseException:
            self._roll_back()
            raise
        self.commit()

    def commit(self) -> None:
        """End the transaction; raises DatabaseError unless the answer says that it was committed."""
        self._may_have_committed = True
        result = self._session.pgconn.exec_(b"COMMIT")
        if result.status != ExecStatus.COMMAND_OK:
            raise error_of(self._session.pgconn, result)
        tag = result.command_status or b""
        if tag != b"COMMIT":
            raise DatabaseError(f"nothing was stored: the database answered COMMIT by {tag.decode()}")
        self._prove_commit()

    def _pipeline(
        self, requests: Sequence[tuple[PreparedStatement, list[Buffer | None]]]
    ) -> list[pq.abc.PGresult]:
        """BEGIN and the statements in one go; what each statement was answered, in their order.

        psycopg's connections do not block: what the socket does not take is sent by `_next_answer`.
        """
        pgconn = self._session.pgconn
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(b"BEGIN", None)
        for prepared, dumped in requests:
            prepared.send(dumped)
        pgconn.pipeline_sync()
        begun, *answers = _answers(pgconn)
        pgconn.exit_pipeline_mode()
        if begun.status != ExecStatus.COMMAND_OK:
            raise error_of(pgconn, begun)
        return answers

    def _roll_back(self) -> None:
        """End a transaction that is not to be committed; a connection that cannot is closed."""
        session = self._session
        with contextlib.suppress(psycopg.Error):
            if session.status is not TransactionStatus.IDLE:
                session.pgconn.exec_(b"ROLLBACK")
        if session.status is not TransactionStatus.IDLE:
            session.connection.close()

    def _prove_commit(self) -> None:
        self._prove(TransactionStatus.IDLE)
        self._is_in_doubt = True
        self._session.check_replicated()
        self._is_in_doubt = False

    def _prove(self, expected: TransactionStatus) -> None:
        status = self._session.status
        if status is not expected:
            raise DatabaseError(
                f"the commit is not proven: the connection is {status.name}, not {expected.name}"
            )


def _answers(pgconn: pq.abc.PGconn) -> list[pq.abc.PGresult]:
    """The answers of a pipeline up to its sync; raises psycopg.OperationalError if the connection ends."""
    answers: list[pq.abc.PGresult] = []
    try:
        while True:
            answer = _next_answer(pgconn) or _next_answer(pgconn)  # None ends those of one statement
            if answer is None or answer.status == ExecStatus.PIPELINE_SYNC:
                break
            answers.append(answer)
    except psycopg.OperationalError:
        answer = None
    if answer is None:  # the reason is what the server said last, if it did
        failed = (each for each in reversed(answers) if each.status == ExecStatus.FATAL_ERROR)
        raise error_of(pgconn, next(failed, None))
    return answers


def _next_answer(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """Wait for it outside of libpq: psycopg holds Python's lock while `get_result` waits."""
    while pgconn.is_busy():
        unsent = pgconn.flush()  # before the socket is asked for: it may close it
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
        poll.poll()
        pgconn.consume_input()
    return pgconn.get_result()


@contextlib.contextmanager
def _row_counts() -> Iterator[None]:
    """What our statements make of fewer rows than were sent, in words."""
    try:
        yield
    except psycopg.errors.DivisionByZero:
        raise too_few_rows() from None


def too_few_rows() -> DatabaseError:
    """The error for rows that were sent and are not there."""
    return DatabaseError(
        "the database took fewer rows than it was sent (has a table a trigger or a rule?); "
        "the transaction was undone"
    )
