"""A repository whose transaction has steps of its own: what all strategies build on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bench.strategies.statements import ARRAY_JOIN
from logger.repositories import BaselineRepository, Stream
from logger.repositories.stream import Standing
from logger.repositories.transaction import Step
from logger.repositories.wire import Float8Array, Int2Array, Int8Array, TextArray, TimestamptzArray
from logger.scan import Batch, Gap, StreamKey

Values = Mapping[str, Any]
"""What the product sends of a batch, by the names in its statements."""


class StepwiseRepository(BaselineRepository):
    """Stores a batch by the steps that a subclass makes of it, all in one transaction."""

    name = "synchronizing"
    """Of the promise in the ledger: the oracle holds current values of such transactions to I2."""

    def open(
        self,
        key: StreamKey,
        recipe: str = "",
        writer: UUID | None = None,
        poll_group: str = "",
        interval_s: float | None = None,
    ) -> Stream:
        """As every repository's, but the stream's steps are ours."""
        stream = super().open(key, recipe, writer, poll_group, interval_s)
        return _StepwiseStream(self, key, recipe, stream.writer, stream.standing)

    @abstractmethod
    def batch_steps(self, batch: Batch, stored: Step) -> list[Step]:
        """The steps for a batch, made of the one that the baseline stores it by."""


class _StepwiseStream(Stream):
    """Replaces the step that stores a batch."""

    def steps(self, item: Batch | Gap, standing: Standing) -> tuple[list[Step], Standing]:
        steps, after = super().steps(item, standing)
        if isinstance(item, Gap):
            return steps, after
        repository = self.repository
        assert isinstance(repository, StepwiseRepository)
        stored, *others = steps  # of a process that ends or begins
        return [*repository.batch_steps(item, stored), *others], after


class UpdateStrategy(StepwiseRepository):
    """The baseline's statement, then the update of current values in some way, in one round trip.

    What is not all good, or holds texts, is rare: that goes the general way in every strategy.
    """

    def batch_steps(self, batch: Batch, stored: Step) -> list[Step]:
        if not batch.last_scan_is_good or batch.texts:
            return [stored, general_update(batch, stored.values)]
        return [stored, *self.update_steps(batch, stored.values)]

    @abstractmethod
    def update_steps(self, batch: Batch, values: Values) -> Sequence[Step]:
        """The update for a batch whose last scan is good in every value; `values` are the baseline's."""


def unchecked(count: int) -> None:
    """Any number of rows may be updated: newer ones are left alone."""


def general_update(batch: Batch, values: Values) -> Step:
    """One join with arrays that takes everything: bad values, texts, an older scan."""
    newest = batch.newest_usable()
    last = batch.parameters
    more = {
        "new_id": type(values["parameter_id"])(batch.parameter_id[-last:]),
        "new_value": Float8Array(newest.value),
        "new_scan": Int8Array(newest.scan),
        "new_updated_at": TimestamptzArray(newest.updated_at),
        "new_set_value": Float8Array(newest.set_value),
        "new_quality": Int2Array(newest.quality),
        "new_attempt_scan": Int8Array(newest.attempt_scan),
        "new_attempt_at": TimestamptzArray(newest.attempt_at),
        "new_text": TextArray(batch.parameters, newest.texts),
    }
    return Step(ARRAY_JOIN, {**values, **more}, unchecked)
