"""One stream on its way into the database: what each transaction must find, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol
from uuid import UUID, uuid4, uuid5

from psycopg.types.numeric import Int4, Int8

from logger.errors import StreamMoved
from logger.repositories import statements
from logger.repositories.transaction import Step, too_few_rows
from logger.repositories.wire import (
    Float8Array,
    Int2Array,
    Int4Array,
    TextArray,
    Timestamptz,
    TimestamptzArray,
)
from logger.scan import Batch, Gap, StreamKey
from logger.streams import StreamHead, batch_hash, gap_hash

_PROCESS_NAMESPACE = UUID("8f7a3c1e-52c4-5d0b-9d5e-3f1f6c1f0a84")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream stands, and the process that runs there."""

    head: StreamHead
    process_id: UUID | None = None
    process_number: int | None = None


class Store(Protocol):
    """What a stream needs of the repository that opened it."""

    name: ClassVar[str]

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        """The statement that stores the batch, and what it needs beyond the batch's rows."""

    def store_together(self, work: Sequence[tuple[Stream, Batch | Gap]]) -> None:
        """Store what continues several streams in one transaction."""


class Stream:
    """Stores the scans of one stream, through the repository that opened it; used by one thread.

    After an error whose outcome is unknown (`is_certain` says) open it again: that reads back from
    the database where it stands.
    """

    def __init__(
        self, repository: Store, key: StreamKey, recipe: str, writer: UUID, standing: Standing
    ) -> None:
        self.key = key
        self.writer = writer
        """Who we are: the stream moves only while it is ours."""
        self.standing = standing
        self.attempted: StreamHead | None = None
        """Where the last try to store meant to put the stream; None: it did not get so far."""
        self.is_certain = True
        """After an error: whether nothing was stored for certain, since the database has said so."""
        self.repository = repository
        self._recipe = recipe
        self._key = {"device_id": key.device_id, "stream_id": Int4(key.stream_id)}

    @property
    def head(self) -> StreamHead:
        """Where the stream stands."""
        return self.standing.head

    @property
    def process_id(self) -> UUID | None:
        """The process that runs, None while idle."""
        return self.standing.process_id

    @property
    def process_number(self) -> int | None:
        """What the PLC calls it."""
        return self.standing.process_number

    def store(self, batch: Batch) -> None:
        """Store a batch that continues the stream; returns when the commit is proven.

        Raises StreamMoved if the stream does not stand at `head` or is another writer's (then nothing
        was stored), DatabaseError if the commit is not proven, and psycopg.Error.
        """
        self.repository.store_together([(self, batch)])

    def record_gap(self, gap: Gap) -> None:
        """Record scans that were not read, so that the stream stays contiguous; raises as `store`."""
        self.repository.store_together([(self, gap)])

    def steps(self, item: Batch | Gap, standing: Standing) -> tuple[list[Step], Standing]:
        """What stores an item where the stream stands so, and how it stands then."""
        if item.first_scan != standing.head.last_scan + 1:
            raise self._moved(standing, item.first_scan)
        if item.last_scan < item.first_scan:  # would move the stream back
            raise ValueError(f"scans {item.first_scan} to {item.last_scan} are none")
        return self._gap(item, standing) if isinstance(item, Gap) else self._batch(item, standing)

    def _batch(self, batch: Batch, before: Standing) -> tuple[list[Step], Standing]:
        after = before
        if batch.process_number != before.process_number:
            after = replace(
                before, process_id=self._new_process_id(batch), process_number=batch.process_number
            )
        process_id = after.process_id
        digest = batch_hash(batch, self.key.stream_id, process_id, before.head.head_hash)
        rows = len(batch.value)
        statement, more = self.repository.statement(batch)
        values = {
            **self._moves(batch, batch.transaction_id, before, digest),
            "rows": Int4(rows),
            "process_rows": Int4(rows if process_id else 0),
            "process_id": process_id,
            "first_recorded_at": Timestamptz(int(batch.recorded_at.min())),
            "last_recorded_at": Timestamptz(int(batch.recorded_at.max())),
            "parameters": Int8(batch.parameters),
            "parameter_id": Int4Array(batch.parameter_id),
            "recorded_at": TimestamptzArray(batch.recorded_at),
            "value": Float8Array(batch.value),
            "set_value": Float8Array(batch.set_value),
            "quality": Int2Array(batch.quality if batch.has_bad else batch.quality[:0]),
            **more,
        }
        if batch.texts:
            values["value_text"] = TextArray(rows, batch.texts)
        steps = [Step(statement, values, self._check_moved(before, batch.first_scan))]
        if after is not before:
            steps += self._process_change(batch, before, after)
        return steps, replace(after, head=StreamHead(batch.last_scan, digest))

    def _gap(self, gap: Gap, before: Standing) -> tuple[list[Step], Standing]:
        transaction_id = uuid4()
        digest = gap_hash(gap, self.key.device_id, self.key.stream_id, transaction_id, before.head.head_hash)
        values = {
            **self._moves(gap, transaction_id, before, digest),
            "rows": Int4(0),
            "process_rows": Int4(0),
            "process_id": None,
            "first_recorded_at": None,
            "last_recorded_at": None,
            "reason": gap.reason,
            "first_at": Timestamptz(gap.first_at) if gap.first_at else None,
            "last_at": Timestamptz(gap.last_at) if gap.last_at else None,
        }
        step = Step(statements.GAP, values, self._check_moved(before, gap.first_scan))
        return [step], replace(before, head=StreamHead(gap.last_scan, digest))

    def _moves(
        self, item: Batch | Gap, transaction_id: UUID, before: Standing, digest: bytes
    ) -> dict[str, Any]:
        """What moves the stream's row and enters the ledger."""
        return {
            **self._key,
            "writer": self.writer,
            "first_scan": Int8(item.first_scan),
            "last_scan": Int8(item.last_scan),
            "expected_scan": Int8(before.head.last_scan),
            "previous_hash": before.head.head_hash,
            "hash": digest,
            "transaction_id": transaction_id,
            "repository": self.repository.name,
        }

    def _process_change(self, batch: Batch, before: Standing, after: Standing) -> list[Step]:
        """Ends the process that ran before and enters the one that runs now, at the batch's first scan."""
        at = Timestamptz(int(batch.recorded_at[0]))
        steps = []
        if before.process_id is not None:
            values = {**self._key, "process_id": before.process_id, "at": at}
            steps.append(Step(statements.CLOSE_PROCESS, values, lambda closed: None))
        if after.process_id is not None:
            values = {
                **self._key,
                "process_id": after.process_id,
                "number": Int8(batch.process_number or 0),
                "recipe": self._recipe,
                "first_scan": Int8(batch.first_scan),
                "at": at,
            }
            steps.append(Step(statements.OPEN_PROCESS, values, _check_entered))
        return steps

    def _new_process_id(self, batch: Batch) -> UUID | None:
        """An id that a repeat of the same batch finds again."""
        if batch.process_number is None:
            return None
        return uuid5(_PROCESS_NAMESPACE, f"{self.key.device_id}/{self.key.stream_id}/{batch.first_scan}")

    def _check_moved(self, before: Standing, first_scan: int) -> Callable[[int], None]:
        def check(advanced: int) -> None:
            if advanced != 1:
                raise self._moved(before, first_scan)

        return check

    def _moved(self, standing: Standing, scan: int) -> StreamMoved:
        return StreamMoved(
            f"stream {self.key.stream_id} of {self.key.device_id} does not stand at scan "
            f"{standing.head.last_scan}, so scan {scan} was not stored: is another logger using it?"
        )


def _check_entered(entered: int) -> None:
    if entered != 1:
        raise too_few_rows()
