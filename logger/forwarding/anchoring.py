"""Where our numbers stand in the database's: contact with streams, the first one and each one after.

A logger counts its scans itself, so that it can start without a database. The number in the database is
ours plus the stream's offset (its anchor), which is found at first contact and kept in the spool BEFORE
the stream is claimed: whenever the logger dies, the stream's row and the anchor together say what is stored.

A row that is ours: everything up to its last scan is stored; what we had stored beyond it is gone (the
database was restored from a backup) and becomes a gap. If it stands beyond all that this spool ever
numbered, the spool is the older one: what it holds is stored, new scans go on behind the row.
A row that is another's, or new: at first contact our numbers go on behind it; later, somebody has taken
the stream over, and this logger stores nothing more in it.

Rows are read under a lock that the claim keeps, so that no other logger moves them in between. A row
that is locked by a connection that has not ended yet is left for later; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from psycopg import Connection

from logger.errors import StreamMoved
from logger.forwarding.gathering import Lane, last_number
from logger.repositories import Repository, Stream
from logger.repositories.wire import TimestamptzArray
from logger.scan import Scan, StreamKey
from logger.spool import Spool, Spooled

log = logging.getLogger(__name__)

MOST_AT_ONCE = 64
"""Streams that are opened in one transaction."""

_KEYS = "SELECT * FROM unnest(%s::text[], %s::integer[])"
_KNOWN = f"SELECT device_id, stream_id FROM logging_streams WHERE (device_id, stream_id) IN ({_KEYS})"
_LOCK = f"""
SELECT device_id, stream_id, last_scan, writer FROM logging_streams
WHERE (device_id, stream_id) IN ({_KEYS}) ORDER BY device_id, stream_id
FOR NO KEY UPDATE SKIP LOCKED"""
_STORED_TIMES = """
SELECT (extract(epoch FROM recorded_at) * 1000000)::bigint FROM parameter_value_history
WHERE device_id = %s AND stream_id = %s AND parameter_id = %s AND recorded_at = ANY (%s)"""
_HAS_HISTORY = "SELECT FROM parameter_value_history WHERE device_id = %s AND stream_id = %s LIMIT 1"


Trimmed = Callable[[list[Spooled]], None]


class Row(NamedTuple):
    """What a stream's row says."""

    last_scan: int
    writer: UUID | None


class Plan(NamedTuple):
    """How a lane's stream is to be opened."""

    lane: Lane
    last_scan: int
    """Of the row that is locked; 0: there is none."""
    offset: int
    is_new: bool
    """Whether the spool does not know this offset yet."""


class Opened(NamedTuple):
    """A lane whose stream is ours, as the database has it."""

    lane: Lane
    stream: Stream
    offset: int


def open_streams(
    connection: Connection[Any],
    repository: Repository,
    spool: Spool,
    lanes: Sequence[Lane],
    on_trimmed: Trimmed,
) -> list[Opened]:
    """Claim the streams of these lanes, where they are ours to claim; one transaction.

    Lanes that another logger has taken over get `lost`; those whose row is locked, and those of which
    everything that waits is stored already (then `waiting` is empty), are left out. `on_trimmed` is told
    what was taken out of a lane because it is stored. Raises psycopg.Error; then nothing was claimed.
    """
    ordered = sorted(lanes, key=lambda lane: lane.key)
    with connection.transaction():
        rows, locked = _lock(connection, [lane.key for lane in ordered])
        plans = [
            plan
            for lane in ordered
            if lane.key not in locked
            and (plan := _plan(connection, spool, lane, rows.get(lane.key), on_trimmed)) is not None
        ]
        if anchors := {plan.lane.key: plan.offset for plan in plans if plan.is_new}:
            spool.set_offsets(anchors)  # before the claim, or a crash between would misread the rows
        return [_claim(repository, spool, plan) for plan in plans]


def _lock(
    connection: Connection[Any], keys: Sequence[StreamKey]
) -> tuple[dict[StreamKey, Row], set[StreamKey]]:
    """The rows that there are, locked, and which are there but locked by somebody else."""
    names = ([key.device_id for key in keys], [key.stream_id for key in keys])
    found = connection.execute(_LOCK, names).fetchall()
    rows = {StreamKey(device, stream): Row(last_scan, writer) for device, stream, last_scan, writer in found}
    known = {StreamKey(*row) for row in connection.execute(_KNOWN, names).fetchall()}
    return rows, known - rows.keys()


def _plan(
    connection: Connection[Any], spool: Spool, lane: Lane, row: Row | None, on_trimmed: Trimmed
) -> Plan | None:
    """Which of our numbers the database's next one is; None: this stream is not to be claimed now."""
    key, last_scan = lane.key, row.last_scan if row else 0
    if row is not None and row.writer == spool.writer and spool.anchored(key):
        offset = spool.offset(key)
        if lane.head is not None or last_scan - offset < lane.new_from:
            return Plan(lane, last_scan, offset, is_new=False)
        log.warning("%s knows scans that the spool has lost: numbers go on behind them", key)
        return Plan(lane, last_scan, last_scan + 1 - lane.new_from, is_new=True)
    if lane.head is not None:
        lane.lost = _why_lost(connection, key, row)
        if lane.lost is not None:
            return None
    first = _first_unsent(connection, spool, lane, row, on_trimmed)
    return None if first is None else Plan(lane, last_scan, last_scan + 1 - first, is_new=True)


def _claim(repository: Repository, spool: Spool, plan: Plan) -> Opened:
    spec = plan.lane.spec
    stream = repository.open(spec.key, spec.recipe, spool.writer, spec.poll_group, spec.interval_s)
    if stream.head.last_scan != plan.last_scan:  # two loggers meet a new stream: the other was faster
        raise StreamMoved(f"{spec.key} moved while it was opened")
    return Opened(plan.lane, stream, plan.offset)


def _why_lost(connection: Connection[Any], key: StreamKey, row: Row | None) -> StreamMoved | None:
    """Why a stream that was ours is not any more; None: this is a new, empty database."""
    name = f"stream {key.stream_id} of {key.device_id}"
    if row is not None:
        return StreamMoved(f"{name} was taken over by another logger after scan {row.last_scan}")
    if connection.execute(_HAS_HISTORY, key).fetchone() is not None:
        return StreamMoved(f"{name} has lost its row in logging_streams")
    return None


def _first_unsent(
    connection: Connection[Any], spool: Spool, lane: Lane, row: Row | None, on_trimmed: Trimmed
) -> int | None:
    """Our first number that is not in the database; None: all that waits in the lane is.

    A spool that was never anchored has stored nothing (unless it is an old copy, and the row is ours). One
    that was, and finds the stream another's, may hold scans that it had stored before; their times tell,
    for nothing else of them is ours any more.
    """
    if not spool.anchored(lane.key) and (row is None or row.writer != spool.writer):
        return 1
    if row is None:
        return spool.first_unreleased(lane.key)
    stored = _stored_of(connection, lane)
    on_trimmed(trimmed(lane, stored))
    return max(stored + 1, spool.first_unreleased(lane.key)) if lane.waiting else None


def trimmed(lane: Lane, stored: int) -> list[Spooled]:
    """Take out of a lane what is stored already, up to this number."""
    found = []
    while lane.waiting and last_number(lane.waiting[0].item) <= stored:
        found.append(lane.waiting.popleft())
    return found


def _stored_of(connection: Connection[Any], lane: Lane) -> int:
    """The last number of the waiting scans that the database holds; 0: none."""
    times = {int(s.item.recorded_at[0]): s.item.number for s in lane.waiting if isinstance(s.item, Scan)}
    parameter = int(lane.spec.layout.parameter_ids[0])
    asked = TimestamptzArray(np.array(list(times), dtype=np.int64))
    found = connection.execute(_STORED_TIMES, (*lane.key, parameter, asked)).fetchall()
    return max((times[us] for (us,) in found), default=0)
