"""The synchronizing repository: what the baseline stores, and current values in step with it."""

from __future__ import annotations

from typing import Any, ClassVar

from psycopg.types.numeric import Int4

from logger.repositories import statements
from logger.repositories.repository import Repository
from logger.repositories.wire import Float8Array, Int2Array, Int8Array, TimestamptzArray
from logger.scan import Batch


class SynchronizingRepository(Repository):
    """Updates `component_parameters` in the same transaction; one writer a device."""

    name = "synchronizing"
    shared_device: ClassVar[bool] = False

    def _statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        last = {"from": Int4(len(batch.value) - batch.parameters + 1)}
        if batch.last_scan_is_good:
            return statements.synchronizing(True, self.shared_device), last
        newest = batch.newest_good()
        return statements.synchronizing(False, self.shared_device), {
            **last,
            "new_value": Float8Array(newest.value),
            "new_scan": Int8Array(newest.scan),
            "new_updated_at": TimestamptzArray(newest.updated_at),
            "new_set_value": Float8Array(newest.set_value),
            "new_quality": Int2Array(newest.quality),
            "new_attempt_scan": Int8Array(newest.attempt_scan),
            "new_attempt_at": TimestamptzArray(newest.attempt_at),
        }


class SharedSynchronizingRepository(SynchronizingRepository):
    """The same for a device whose current values several streams write: no deadlocks."""

    shared_device = True
