"""Transactions that are proven: what a writer sends, what it may release, what it sets aside.

Nothing is released that is not proven to be stored or in quarantine. What the database refuses for its
content is found by halves, for whatever was sent with it can be stored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from logger.database import create_partitions, line_of
from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable, SpoolFailed
from logger.forwarding.deadline import Deadline
from logger.forwarding.figures import Counts, Stored
from logger.forwarding.gathering import Lane, Work, halves
from logger.forwarding.intake import Inbox, rows_of
from logger.forwarding.retry import Action, Phase, action_for
from logger.forwarding.settings import ForwarderSettings
from logger.repositories import Repository
from logger.scan import Batch, Gap, StreamKey
from logger.spool import Quarantine, Spool, Spooled

log = logging.getLogger(__name__)

Failure = (psycopg.Error, DatabaseError, SpoolFailed, OSError)
"""What the database, our connection to it and the disk below the spool raise; anything else is a bug and
ends the thread."""

_SETTLED_HERE = (Action.POISON, Action.PARTITION, Action.CONFIGURATION)
"""What concerns some of a transaction's works, mostly: the others are stored at once."""
_MOST_UNKNOWN = 100
"""Attempts of unknown outcome that are remembered of a stream, the newest."""
_DAY_US = 86_400_000_000
_UNSTORABLE_REASON = "missed (the reason could not be stored)"


class Transactions:
    """A writer's connection and what goes over it; used by the writer's thread."""

    def __init__(
        self,
        spool: Spool,
        quarantine: Quarantine,
        settings: ForwarderSettings,
        on_stored: Callable[[Stored], None],
    ) -> None:
        self.inbox = Inbox()
        self.counts = Counts()
        self.trouble = ""
        """Why nothing, or not everything, is being stored; empty: it is."""
        self._spool, self._quarantine, self._settings = spool, quarantine, settings
        self._on_stored = on_stored
        self._connection: Connection[Any] | None = None
        self._repository: Repository
        self._deadline: Deadline
        self._held_up: dict[StreamKey, float] = {}
        """Streams that cannot be stored now, since when (monotonic)."""

    def _store(self, works: Sequence[Work], partitions_made: bool = False) -> None:
        """Store these in one transaction, or in parts if that is what it takes."""
        try:
            self._transact(works)
            return
        except Failure as exc:
            failure, action = exc, action_for(exc, Phase.STORING)
            if action not in _SETTLED_HERE or not self._is_certain(works):
                raise
        self.counts.retries[action] += 1
        if action is Action.PARTITION:
            action = Action.CONFIGURATION if partitions_made else self._make_partitions(works)
            if action is None:
                self._store(works, partitions_made=True)
                return
            self.counts.retries[action] += 1
        self._part(works, action, failure, partitions_made)

    def _part(self, works: Sequence[Work], action: Action, exc: Exception, partitions_made: bool) -> None:
        """Something among these cannot be stored: the others can, and it is set aside or left for later."""
        parts = halves(works) if action is Action.POISON or len(works) > 1 else None
        if parts is not None:
            for part in parts:  # of a lane that was left for later, the second half waits too
                now = time.monotonic()
                if rest := [work for work in part if work.lane.resume_at <= now]:
                    self._store(rest, partitions_made)
        elif action is Action.POISON and (isinstance(works[0].what, Batch) or not _is_plain(works[0].what)):
            self._set_aside(works[0], line_of(exc), getattr(exc, "sqlstate", None) or "")
        else:
            self._hold_up(works[0].lane, line_of(exc))

    def _transact(self, works: Sequence[Work]) -> None:
        """Store in one transaction and release; raises if that is not proven."""
        started_ns = min(work.started_ns for work in works)
        streams = [work.lane.stream for work in works]
        try:
            with self._deadline:
                self._repository.store_together(
                    [(stream, work.what) for stream, work in zip(streams, works, strict=True)]  # type: ignore[misc]
                )
        except Failure:
            for stream, work in zip(streams, works, strict=True):
                if stream is not None and stream.attempted is not None and not stream.is_certain:
                    unknown = work.lane.unknown
                    unknown[stream.attempted] = work
                    while len(unknown) > _MOST_UNKNOWN:
                        del unknown[next(iter(unknown))]
            raise
        committed_ns = time.monotonic_ns()
        counts = self.counts
        counts.transactions += 1
        counts.commits_ms.append((committed_ns - started_ns) / 1e6)
        for work in works:
            self._done(work, committed_ns)
        self._went_well()
        self._spool.release([each for work in works for each in work.items])

    def _done(self, work: Work, committed_ns: int) -> None:
        """A work is stored: its items wait no more. The caller releases them."""
        lane, what = work.lane, work.what
        assert lane.stream is not None
        lane.head, lane.next = lane.stream.head, work.last + 1
        lane.unknown.clear()
        self._held_up.pop(lane.key, None)
        for _ in work.items:
            lane.waiting.popleft()
        self._forget(work.items)
        if isinstance(what, Batch):
            self.counts.scans += len(work.items)
            self.counts.rows += len(what.value)
            self._on_stored(Stored(lane.key, what, work.scans, work.started_ns, committed_ns))
        else:
            self.counts.gaps += 1

    def _is_certain(self, works: Sequence[Work]) -> bool:
        """After a failure: whether nothing was stored for certain, on a connection that is well."""
        streams = [work.lane.stream for work in works]
        return self._is_well() and all(stream is not None and stream.is_certain for stream in streams)

    def _went_well(self) -> None:
        """A transaction was proven; the writer overrides it."""

    def _set_aside(self, work: Work, error: str, sqlstate: str) -> None:
        """Put a scan into quarantine and a gap record into its place; of a gap, record what can be."""
        lane, offset = work.lane, work.lane.offset
        if isinstance(work.what, Gap):
            gap = Gap(work.what.first_scan, work.what.last_scan, _UNSTORABLE_REASON)
        else:
            (scan,) = work.scans
            number = scan.number + offset
            log.error("%s: scan %d goes into quarantine: %s", name_of(lane), number, error)
            try:
                self._quarantine.add(lane.key, scan, number, error, sqlstate)
            except (SpoolFailed, OSError) as exc:  # it is full, or the disk is: the scan stays in the spool
                self._hold_up(lane, str(exc))
                return
            at = (int(scan.recorded_at.min()), int(scan.recorded_at.max()))
            gap = Gap(number, number, "quarantined: " + error.replace("\0", "?")[:200], *at)
            self.counts.quarantined += 1
        self._store([Work(lane, work.items, work.last, gap)])

    def _make_partitions(self, works: Sequence[Work]) -> Action | None:
        """Make the partitions that these need; what is wrong if there can be none.

        Poison: some of their times have no date. Configuration: we may not make tables here.
        """
        assert self._connection is not None
        batches = [work.what for work in works if isinstance(work.what, Batch)]
        days = np.unique(np.concatenate([batch.recorded_at // _DAY_US for batch in batches]))
        try:
            for day in days.tolist():
                with self._deadline:
                    create_partitions(self._connection, day * _DAY_US, day * _DAY_US)
        except (DatabaseUnreachable, DatabaseRefused):
            raise
        except DatabaseError:
            return Action.POISON
        except psycopg.Error as exc:
            if action_for(exc, Phase.STORING) is not Action.CONFIGURATION or not self._is_well():
                raise
            return Action.CONFIGURATION
        return None

    def _hold_up(self, lane: Lane, why: str) -> None:
        """Leave one lane alone for a while; the others go on."""
        now = time.monotonic()
        lane.resume_at = now + self._settings.slow_s
        self._held_up.setdefault(lane.key, now)
        self._say(f"stopped: {name_of(lane)}: {why}")

    def _forget(self, items: Iterable[Spooled]) -> None:
        """These are in our hands no more."""
        self.inbox.done_rows += sum(rows_of(each) for each in items)

    def _is_well(self) -> bool:
        """Whether the connection can be used, with no transaction under way."""
        connection = self._connection
        return connection is not None and connection.info.transaction_status is TransactionStatus.IDLE

    def _say(self, trouble: str) -> None:
        """Log what has changed, once."""
        if trouble != self.trouble:
            self.trouble = trouble
            log.warning("%s", trouble or "storing again")


def name_of(lane: Lane) -> str:
    return f"stream {lane.key.stream_id} of {lane.key.device_id}"


def _is_plain(what: Batch | Gap | None) -> bool:
    return isinstance(what, Gap) and what.reason == _UNSTORABLE_REASON
