"""The synchronizing repository: what the baseline stores, and current values in step with it."""

from __future__ import annotations

from typing import Any, ClassVar

from psycopg.types.numeric import Int4

from logger.repositories import statements
from logger.repositories.repository import Repository
from logger.repositories.statements import Newest
from logger.repositories.wire import Float8Array, Int2Array, Int8Array, TextArray, TimestamptzArray
from logger.scan import Batch


class SynchronizingRepository(Repository):
    """Updates `component_parameters` in the same transaction; each parameter is one stream's alone."""

    name = "synchronizing"
    shared_device: ClassVar[bool] = False

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        where = _newest_in(batch)
        sql = statements.synchronizing(where, self.shared_device, bool(batch.texts))
        if where is Newest.ONE_SCAN:
            return sql, {}
        last = {"from": Int4(len(batch.value) - batch.parameters + 1)}
        if where is Newest.LAST_SCAN:
            return sql, last
        newest = batch.newest_usable()
        more = {
            **last,
            "new_value": Float8Array(newest.value),
            "new_scan": Int8Array(newest.scan),
            "new_updated_at": TimestamptzArray(newest.updated_at),
            "new_set_value": Float8Array(newest.set_value),
            "new_quality": Int2Array(newest.quality),
            "new_attempt_scan": Int8Array(newest.attempt_scan),
            "new_attempt_at": TimestamptzArray(newest.attempt_at),
        }
        if batch.texts:
            more["new_text"] = TextArray(batch.parameters, newest.texts)
        return sql, more


def _newest_in(batch: Batch) -> Newest:
    if not batch.last_scan_is_good:
        return Newest.ARRAYS
    return Newest.ONE_SCAN if batch.first_scan == batch.last_scan else Newest.LAST_SCAN


class SharedSynchronizingRepository(SynchronizingRepository):
    """The same where several streams write the same parameters of a device: no deadlocks."""

    shared_device = True
