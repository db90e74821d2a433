"""What every repository does: store a batch in one transaction, and say for certain that it did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4, uuid5

from psycopg import Connection
from psycopg.errors import DivisionByZero
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int4, Int8

from logger.errors import DatabaseError, StreamMoved
from logger.repositories import statements
from logger.repositories.prepared import PreparedStatement
from logger.repositories.wire import (
    Float8Array,
    Int2Array,
    Int4Array,
    TimestamptzArray,
)
from logger.scan import Batch, Gap
from logger.streams import GENESIS, StreamHead, batch_hash, gap_hash

_PROCESS_NAMESPACE = UUID("8f7a3c1e-52c4-5d0b-9d5e-3f1f6c1f0a84")


class Repository(ABC):
    """Stores the scans of one stream; subclasses say by which statement.

    The connection is in autocommit mode, has `register_arrays` behind it and is used by one thread.
    `head` says where the stream stands; after an error whose outcome is unknown (any
    psycopg.OperationalError), open again: that reads it back from the database.
    """

    name: ClassVar[str]

    def __init__(
        self, connection: Connection[Any], device_id: str, stream_id: int = 1, recipe: str = ""
    ) -> None:
        self._connection = connection
        self._prepared: dict[str, PreparedStatement] = {}
        self._device_id = device_id
        self._stream_id = stream_id
        self._recipe = recipe
        self._key = {"device_id": device_id, "stream_id": Int4(stream_id)}
        self.process_id: UUID | None = None
        self.process_number: int | None = None
        self.attempted: StreamHead | None = None
        """Where the last `store` or `record_gap` meant to put the stream; None: it did not get so far."""
        self.head = self._open()

    def _open(self) -> StreamHead:
        execute = self._connection.execute
        execute(statements.OPEN_STREAM, {**self._key, "genesis": GENESIS})
        row = execute(statements.READ_STREAM, self._key).fetchone()
        assert row is not None
        process = execute(statements.READ_OPEN_PROCESS, self._key).fetchone()
        self.process_id, self.process_number = process or (None, None)
        return StreamHead(row[0], bytes(row[1]))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def is_certain(self) -> bool:
        """After an error: whether the database has ended the transaction, so that nothing was stored."""
        return self._connection.info.transaction_status is TransactionStatus.IDLE

    def store(self, batch: Batch) -> None:
        """Store a batch that continues the stream; returns when the commit is proven.

        Raises StreamMoved if the stream does not stand at `head` (then nothing was stored) and
        psycopg.Error; after psycopg.OperationalError the outcome is unknown.
        """
        self.attempted = None
        if batch.process_number == self.process_number:
            self._store(batch, self.process_id)
            self._prove_idle()
            return
        process_id = self._new_process_id(batch)
        with self._connection.transaction():
            self._change_process(batch, process_id)
            head = self._store(batch, process_id, keep_head=True)
        self._prove_idle()
        self.head, self.process_id = head, process_id
        self.process_number = batch.process_number

    def record_gap(self, gap: Gap) -> None:
        """Record scans that were not read, so that the stream stays contiguous; raises as `store`."""
        self.attempted = None
        transaction_id = uuid4()
        digest = gap_hash(gap, self._device_id, self._stream_id, transaction_id, self.head.head_hash)
        self._execute(
            statements.GAP,
            {
                **self._ledger(gap.first_scan, gap.last_scan, transaction_id, digest),
                "rows": Int4(0),
                "process_rows": Int4(0),
                "process_id": None,
                "reason": gap.reason,
            },
        )
        self._prove_idle()
        self.head = StreamHead(gap.last_scan, digest)

    def _store(self, batch: Batch, process_id: UUID | None, keep_head: bool = False) -> StreamHead:
        digest = batch_hash(batch, self._stream_id, process_id, self.head.head_hash)
        rows = len(batch.value)
        process_rows = rows if process_id else 0
        statement, more = self._statement(batch)
        self._execute(
            statement,
            {
                **self._ledger(batch.first_scan, batch.last_scan, batch.transaction_id, digest),
                "rows": Int4(rows),
                "process_rows": Int4(process_rows),
                "process_id": process_id,
                "parameters": Int8(batch.parameters),
                "parameter_id": Int4Array(batch.parameter_id),
                "recorded_at": TimestamptzArray(batch.recorded_at),
                "value": Float8Array(batch.value),
                "set_value": Float8Array(batch.set_value),
                "quality": Int2Array(batch.quality if batch.has_bad else batch.quality[:0]),
                **more,
            },
        )
        head = StreamHead(batch.last_scan, digest)
        if not keep_head:
            self.head = head
        return head

    def _execute(self, statement: str, parameters: dict[str, Any]) -> None:
        """Run a statement that moves the stream; what it returns first is whether it did."""
        try:
            if statement not in self._prepared:
                self._prepared[statement] = PreparedStatement(self._connection, statement, parameters)
            advanced = self._prepared[statement].first_value(parameters)
        except DivisionByZero:
            raise DatabaseError(
                "the database took fewer rows than it was sent (has a table a trigger or a rule?); "
                "the transaction was undone"
            ) from None
        if advanced != 1:
            raise StreamMoved(self._moved(parameters["first_scan"]))

    @abstractmethod
    def _statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        """The statement that stores the batch, and what it needs beyond the batch's rows."""

    def _ledger(self, first_scan: int, last_scan: int, transaction_id: UUID, digest: bytes) -> dict[str, Any]:
        if first_scan != self.head.last_scan + 1:
            raise StreamMoved(self._moved(first_scan))
        self.attempted = StreamHead(last_scan, digest)
        return {
            **self._key,
            "first_scan": Int8(first_scan),
            "last_scan": Int8(last_scan),
            "expected_scan": Int8(self.head.last_scan),
            "previous_hash": self.head.head_hash,
            "hash": digest,
            "transaction_id": transaction_id,
            "repository": self.name,
        }

    def _change_process(self, batch: Batch, process_id: UUID | None) -> None:
        at = datetime.fromtimestamp(batch.recorded_at[0] / 1e6, UTC)
        if self.process_id is not None:
            self._connection.execute(
                statements.CLOSE_PROCESS,
                {**self._key, "process_id": self.process_id, "at": at},
            )
        if process_id is not None:
            self._connection.execute(
                statements.OPEN_PROCESS,
                {
                    **self._key,
                    "process_id": process_id,
                    "number": Int8(batch.process_number or 0),
                    "recipe": self._recipe,
                    "first_scan": Int8(batch.first_scan),
                    "at": at,
                },
            )

    def _new_process_id(self, batch: Batch) -> UUID | None:
        """An id that a repeat of the same batch finds again."""
        if batch.process_number is None:
            return None
        name = f"{self._device_id}/{self._stream_id}/{batch.first_scan}"
        return uuid5(_PROCESS_NAMESPACE, name)

    def _prove_idle(self) -> None:
        status = self._connection.info.transaction_status
        if status is not TransactionStatus.IDLE:
            raise DatabaseError(f"the commit is not proven: the connection is {status.name}")

    def _moved(self, scan: int) -> str:
        return (
            f"stream {self._stream_id} of {self._device_id} does not stand at scan "
            f"{self.head.last_scan}, so scan {scan} was not stored: is another logger using it?"
        )
