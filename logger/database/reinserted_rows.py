"""The rows of scans that are inserted again: history, the process that ran, newer current values."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import numpy as np
from psycopg.types.numeric import Int4, Int8

from logger.database.operators import Turn
from logger.errors import DatabaseError
from logger.repositories.wire import (
    Float8Array,
    Int2Array,
    Int4Array,
    Int8Array,
    TextArray,
    Timestamptz,
    TimestamptzArray,
)
from logger.scan import Batch, Longs

_NAMESPACE = UUID("6f0f7f52-93c4-5b5c-8c9f-7a1d3d0c9b42")

_COLUMNS = """device_id, stream_id, scan, parameter_id, recorded_at, value, set_value, quality, value_text,
    transaction_id"""
_ROWS = """SELECT %(device_id)s, %(stream_id)s, row.*, %(transaction_id)s
FROM unnest(%(scan)s, %(parameter_id)s, %(recorded_at)s, %(value)s, %(set_value)s, %(quality)s,
    %(value_text)s) AS row"""
_HISTORY = f"INSERT INTO parameter_value_history ({_COLUMNS}) {_ROWS}"
_POINTS = f"INSERT INTO process_data_points ({_COLUMNS}, process_id) " + _ROWS.replace(
    "%(transaction_id)s\n", "%(transaction_id)s, %(process_id)s\n"
)
_REINSERTIONS = """
INSERT INTO reinsertions (device_id, stream_id, scan, ledger_id)
SELECT %(device_id)s, %(stream_id)s, scan, %(transaction_id)s FROM unnest(%(numbers)s) AS scan"""

# The execution in which the scans fall: one that ran then; or the next one if nothing was stored between
# (its first scans were refused); or one that was made here if nothing was stored since.
_FIND_EXECUTION = """
SELECT process_id FROM process_executions e
WHERE device_id = %(device_id)s AND stream_id = %(stream_id)s AND plc_number = %(process_number)s
  AND (first_scan <= %(first_scan)s AND (ended_at IS NULL OR ended_at > %(first_at)s)
       OR first_scan > %(last_scan)s AND NOT EXISTS (
           SELECT FROM parameter_value_history h
           WHERE h.device_id = e.device_id AND h.stream_id = e.stream_id
             AND h.recorded_at > %(last_at)s AND h.recorded_at < e.started_at
             AND h.scan > %(last_scan)s AND h.scan < e.first_scan)
       OR first_scan <= %(first_scan)s AND outcome = 'inserted again' AND NOT EXISTS (
           SELECT FROM parameter_value_history h
           WHERE h.device_id = e.device_id AND h.stream_id = e.stream_id
             AND h.recorded_at > e.ended_at AND h.recorded_at < %(first_at)s
             AND h.scan > e.first_scan AND h.scan < %(first_scan)s))
ORDER BY first_scan DESC LIMIT 1"""

_ENTER_EXECUTION = """
INSERT INTO process_executions AS e (device_id, process_id, stream_id, plc_number, recipe, first_scan,
    started_at, ended_at, outcome)
VALUES (%(device_id)s, %(process_id)s, %(stream_id)s, %(process_number)s, %(recipe)s, %(first_scan)s,
    %(started_at)s, %(last_at)s, 'inserted again')
ON CONFLICT (device_id, process_id) DO UPDATE
SET started_at = CASE WHEN excluded.first_scan < e.first_scan THEN excluded.started_at ELSE e.started_at END,
    first_scan = least(e.first_scan, excluded.first_scan),
    ended_at = CASE WHEN e.outcome = 'inserted again' THEN greatest(e.ended_at, excluded.ended_at)
                    ELSE e.ended_at END"""

_NEW = """unnest(%(parameters)s, %(new_scan)s, %(new_at)s, %(new_value)s, %(new_text)s, %(new_set_value)s,
    %(new_quality)s, %(attempt_scan)s, %(attempt_at)s)
    AS new (parameter_id, scan, at, value, text, set_value, quality, attempt_scan, attempt_at)
WHERE c.device_id = %(device_id)s AND c.parameter_id = new.parameter_id
  AND (c.scan < new.scan OR c.last_attempt_scan < new.attempt_scan)"""
_IS_NEWER = f"SELECT EXISTS (SELECT FROM component_parameters AS c, {_NEW})"
_UPDATE_CURRENT = f"""
UPDATE component_parameters AS c
SET scan = greatest(c.scan, new.scan),
    updated_at = CASE WHEN new.scan > c.scan THEN new.at ELSE c.updated_at END,
    current_value = CASE WHEN new.scan > c.scan THEN new.value ELSE c.current_value END,
    current_text = CASE WHEN new.scan > c.scan THEN new.text ELSE c.current_text END,
    transaction_id = CASE WHEN new.scan > c.scan THEN %(transaction_id)s ELSE c.transaction_id END,
    last_attempt_scan = greatest(c.last_attempt_scan, new.attempt_scan),
    last_attempt_at = CASE WHEN new.attempt_scan > c.last_attempt_scan THEN new.attempt_at
                           ELSE c.last_attempt_at END,
    last_quality = CASE WHEN new.attempt_scan > c.last_attempt_scan THEN new.quality ELSE c.last_quality END,
    set_value = CASE WHEN new.attempt_scan > c.last_attempt_scan THEN new.set_value ELSE c.set_value END
FROM {_NEW}"""


class NotTaken(DatabaseError):
    """The database took fewer rows than it was sent; the transaction was undone."""


class ReinsertedRows:
    """The rows of one transaction of an operator: scans of one stream, in one process or none.

    `numbers` are the scans of the batch, ascending; they need not follow each other.
    """

    def __init__(self, mine: Turn, batch: Batch, stream_id: int, numbers: Longs, recipe: str) -> None:
        self._turn = mine
        self._execute = mine.connection.execute
        self._batch, self._numbers = batch, numbers
        first = batch.recorded_at[: batch.parameters]
        self._given: dict[str, Any] = {
            "device_id": batch.device_id,
            "stream_id": Int4(stream_id),
            "transaction_id": batch.transaction_id,
            "first_scan": Int8(numbers[0]),
            "last_scan": Int8(numbers[-1]),
            "process_number": None if batch.process_number is None else Int8(batch.process_number),
            "recipe": recipe,
            "started_at": Timestamptz(int(first[0])),
            "first_at": Timestamptz(int(first.min())),
            "last_at": Timestamptz(int(batch.recorded_at[-batch.parameters :].max())),
        }
        self.process_id = self._find_execution(stream_id)

    def insert(self) -> None:
        """Raises NotTaken if a table swallows rows."""
        batch, size = self._batch, len(self._batch.value)
        rows = {
            **self._given,
            "process_id": self.process_id,
            "scan": Int8Array(np.repeat(self._numbers, batch.parameters)),
            "parameter_id": Int4Array(batch.parameter_id),
            "recorded_at": TimestamptzArray(batch.recorded_at),
            "value": Float8Array(batch.value),
            "set_value": Float8Array(batch.set_value),
            "quality": Int2Array(batch.quality),
            "value_text": TextArray(size, batch.texts),
            "numbers": Int8Array(self._numbers),
        }
        statements = [(_HISTORY, size), (_REINSERTIONS, len(self._numbers))]
        if self.process_id is not None:
            statements.append((_POINTS, size))
        for statement, sent in statements:
            if (taken := self._execute(statement.encode(), rows).rowcount) != sent:
                raise NotTaken(
                    f"the database took {taken} rows of {sent} (has a table a trigger or a rule?); the "
                    "transaction was undone"
                )

    def finish(self, synchronizing: bool) -> None:
        """What must come last, since loggers may wait for it: current values, and the process."""
        if synchronizing:
            self._update_current_values()
        if self.process_id is not None:
            self._execute(_ENTER_EXECUTION, {**self._given, "process_id": self.process_id})

    def _find_execution(self, stream_id: int) -> UUID | None:
        """The process that the scans show running; an id of its own for one that nobody has recorded."""
        if self._batch.process_number is None:
            return None
        row = self._execute(_FIND_EXECUTION, self._given).fetchone()
        if row is not None:
            found: UUID = row[0]
            return found
        return uuid5(_NAMESPACE, f"{self._batch.device_id}/{stream_id}/{self._numbers[0]}")

    def _update_current_values(self) -> None:
        """Move current values forward where these scans are newer; mostly they are not, and nobody waits."""
        new = self._batch.newest_usable()
        place = np.where(new.scan > 0, new.scan - self._batch.first_scan, 0)
        columns = {
            **self._given,
            "parameters": Int4Array(self._batch.parameter_id[: self._batch.parameters]),
            "new_scan": Int8Array(np.where(new.scan > 0, self._numbers[place], 0)),
            "new_at": TimestamptzArray(new.updated_at),
            "new_value": Float8Array(new.value),
            "new_text": TextArray(self._batch.parameters, new.texts),
            "new_set_value": Float8Array(new.set_value),
            "new_quality": Int2Array(new.quality),
            "attempt_scan": Int8Array(np.full(self._batch.parameters, self._numbers[-1], dtype=np.int64)),
            "attempt_at": TimestamptzArray(new.attempt_at),
        }
        row = self._execute(_IS_NEWER.encode(), columns).fetchone()
        if row is not None and row[0]:
            self._turn.stop_loggers()
            self._execute(_UPDATE_CURRENT.encode(), columns)
