"""Runs prepared statements in calls of libpq itself: a fifth less time a transaction than psycopg's cursors.

psycopg waits for an answer in a loop of its own, so that other things can happen meanwhile; a thread
that writes has nothing else to do. Parameters go in binary, as psycopg dumps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from typing import Any

import psycopg
from psycopg import Connection, pq
from psycopg.adapt import Buffer, Dumper, PyFormat, Transformer

_names = count(1)
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""Function of the server (PostgreSQL source, syncrep.c) that warns when its wait was cancelled."""


class PreparedStatement:
    """A statement with named parameters, prepared when it is first run.

    A parameter has the type of its first value in every run; None may stand for any. Where the first
    value is None the statement must say the type by a cast. Its only row begins with a bigint.
    """

    def __init__(self, connection: Connection[Any], statement: str, example: Mapping[str, Any]) -> None:
        self._pgconn = connection.pgconn
        self._name = f"plcsim_{next(_names)}".encode()
        self._parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        self._formats = [pq.Format.BINARY] * len(self._parameters)
        self._transformer = Transformer(connection)
        self._dumpers: dict[str, Dumper] = {}
        numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${self._parameters.index(match[1]) + 1}", statement)
        values = [example[name] for name in self._parameters]
        oids = [
            0 if value is None else self._dumper(name, value).oid
            for name, value in zip(self._parameters, values, strict=True)
        ]
        result = self._pgconn.prepare(self._name, numbered.encode(), oids)
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise error_of(self._pgconn, result)

    def run(self, values: Mapping[str, Any]) -> int:
        """Run it; the first column of its only row. Raises psycopg.Error."""
        dumped, binary = self.dump(values), pq.Format.BINARY
        result = self._pgconn.exec_prepared(self._name, dumped, self._formats, binary)  # type: ignore[arg-type]
        return first_value(self._pgconn, result)

    def send(self, dumped: list[Buffer | None]) -> None:
        """Send it in pipeline mode; `first_value` reads what it is answered."""
        binary = pq.Format.BINARY
        self._pgconn.send_query_prepared(self._name, dumped, self._formats, binary)

    def dump(self, values: Mapping[str, Any]) -> list[Buffer | None]:
        """Values as they are sent; raises psycopg.DataError for what PostgreSQL cannot take."""
        return [
            None if (value := values[name]) is None else self._dumper(name, value).dump(value)
            for name in self._parameters
        ]

    def _dumper(self, name: str, value: Any) -> Dumper:
        if name not in self._dumpers:
            self._dumpers[name] = self._transformer.get_dumper(value, PyFormat.BINARY)  # type: ignore[assignment]
        return self._dumpers[name]


class Session:
    """A connection and what is prepared on it; streams and repositories of one connection share a plan.

    The connection is one that `logger.database.connect` made: psycopg must not prepare statements of
    its own on it, for it deallocates all of them, ours too, after a rollback.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self.pgconn = connection.pgconn
        self._prepared: dict[str, PreparedStatement] = {}
        self._is_replicated = True
        connection.add_notice_handler(self._hear)

    def prepared(self, statement: str, example: Mapping[str, Any]) -> PreparedStatement:
        """The statement, prepared now if it is not yet; raises psycopg.Error."""
        if statement not in self._prepared:
            self._prepared[statement] = PreparedStatement(self.connection, statement, example)
        return self._prepared[statement]

    def check_replicated(self) -> None:
        """Raises TransactionResolutionUnknown (08007) if a commit did not wait for its synchronous standby.

        A cancel ends that wait with a warning and the answer of a commit: the transaction stands here,
        and is lost if the standby takes over. A later commit that was waited for covers it.
        """
        if not self._is_replicated:
            self._is_replicated = True
            raise psycopg.errors.TransactionResolutionUnknown(
                "the synchronous standby has not confirmed the commit: it may be lost if that takes over"
            )

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAIT_FOR_STANDBY:  # its words are in the server's language
            self._is_replicated = False

    @property
    def status(self) -> pq.TransactionStatus:
        return pq.TransactionStatus(self.pgconn.transaction_status)


def first_value(pgconn: pq.abc.PGconn, result: pq.abc.PGresult) -> int:
    """The bigint that a result's only row begins with; raises psycopg.Error."""
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise error_of(pgconn, result)
    return int.from_bytes(result.get_value(0, 0) or b"", "big", signed=True)


def error_of(pgconn: pq.abc.PGconn, result: pq.abc.PGresult | None) -> psycopg.Error:
    """What a result says that is not the one expected; where it says nothing, the connection is lost."""
    if result is not None and result.error_field(pq.DiagnosticField.SQLSTATE):
        return psycopg.errors.error_from_result(result)
    reason = pgconn.error_message.decode("utf-8", "replace").strip()
    return psycopg.OperationalError(reason or "the connection is lost")
