"""Readers beside writers, each a thread of one process: do the tables ever disagree?

One look asks what the newest scan of a device is, by the head of its stream, by the history, by the rows
of its process, by the ledger and by the current values. Whoever reads all of it from one snapshot must see
one transaction's work: all of it or nothing. Whoever reads it in two statements, and lets a writer commit in
between, must see them disagree: that control shows that the look can fail.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from logger.database import connect
from plcsim.errors import PlcsimError

ONE_STATEMENT, REPEATABLE, CONTROL = "one statement", "repeatable read", "two statements (control)"
_MOST_EXAMPLES = 3
_CONTROL_WAIT_S = 0.1
"""The control gives a writer so much time to commit between its two statements."""

_ROWS = """SELECT count(*) AS rows, min(scan) AS first, max(scan) AS last, min(transaction_id::text) AS id,
    count(DISTINCT transaction_id) AS ids FROM {table} WHERE device_id = %(device)s
    AND recorded_at = (SELECT max(recorded_at) FROM {table} WHERE device_id = %(device)s)"""
_LOGGED = f"""
SELECT s.last_scan, h.rows, h.first, h.last, h.ids, l.last_scan, l.history_rows, l.process_rows
FROM logging_streams s, ({_ROWS.format(table="parameter_value_history")}) h
LEFT JOIN logging_transactions l ON l.transaction_id = h.id::uuid
WHERE s.device_id = %(device)s AND s.stream_id = %(stream)s"""
_SHOWN = f"""
SELECT p.rows, p.first, p.last, p.ids, c.rows, c.first, c.last
FROM ({_ROWS.format(table="process_data_points")}) p, (
    SELECT count(*) AS rows, min(last_attempt_scan) AS first, max(last_attempt_scan) AS last
    FROM component_parameters WHERE device_id = %(device)s) c"""
_HEAD = "SELECT last_scan FROM logging_streams WHERE device_id = %(device)s AND stream_id = %(stream)s"
_BOTH = f"SELECT * FROM ({_LOGGED}) AS logged, ({_SHOWN}) AS shown"


@dataclass(frozen=True)
class ReaderSettings:
    """Readers of one process."""

    conninfo: str
    schema: str
    streams: tuple[tuple[str, int], ...]
    """(device, stream) of the writers; each has its device for itself, and a process runs on it."""
    parameters: int
    keeps_current: bool
    """Whether the repository keeps current values in step."""
    readers: int
    seconds: float


@dataclass
class Looks:
    """What one way of reading saw."""

    looks: int = 0
    scans: int = 0
    """Different states that were seen, so that nobody has looked at one all the time."""
    disagreed: int = 0
    examples: tuple[str, ...] = ()

    def add(self, more: Looks) -> None:
        self.looks += more.looks
        self.scans += more.scans
        self.disagreed += more.disagreed
        self.examples = (*self.examples, *more.examples)[:_MOST_EXAMPLES]


def readers_ready() -> None:
    """Called first, so that the time it takes to start a process is over when the readers begin."""


def read_beside(settings: ReaderSettings, at_ns: int) -> dict[str, Looks]:
    """Look from a common start on, on so many connections, each in all three ways in turn.

    Raises DatabaseError.
    """
    with ThreadPoolExecutor(settings.readers) as threads:
        found = list(threads.map(lambda number: _read(settings, number, at_ns), range(settings.readers)))
    total = {way: Looks() for way in (ONE_STATEMENT, REPEATABLE, CONTROL)}
    for each in found:
        for way, looks in each.items():
            total[way].add(looks)
    return total


def _read(settings: ReaderSettings, number: int, at_ns: int) -> dict[str, Looks]:
    found = {way: Looks() for way in (ONE_STATEMENT, REPEATABLE, CONTROL)}
    seen: dict[str, set[tuple[str, Any]]] = {way: set() for way in found}
    device, stream = settings.streams[number % len(settings.streams)]
    names = {"device": device, "stream": stream}
    end_ns = at_ns + round(settings.seconds * 1e9)
    with connect(settings.conninfo, settings.schema) as connection:
        if (early := at_ns - time.perf_counter_ns()) > 0:
            time.sleep(early / 1e9)
        while time.perf_counter_ns() < end_ns:
            for way, looks in found.items():
                state = _look(connection, way, names)
                why = disagreement(state, settings.parameters, settings.keeps_current)
                looks.looks += 1
                seen[way].add((device, state[0]))
                if why:
                    looks.disagreed += 1
                    looks.examples = (*looks.examples, f"{device}: {why}")[:_MOST_EXAMPLES]
    for way, looks in found.items():
        looks.scans = len(seen[way])
    return found


def _look(connection: Connection[Any], way: str, names: dict[str, Any]) -> tuple[Any, ...]:
    if way == ONE_STATEMENT:
        return _only(connection, _BOTH, names)
    if way == CONTROL:
        logged = _only(connection, _LOGGED, names)
        give_up = time.perf_counter() + _CONTROL_WAIT_S
        while _only(connection, _HEAD, names)[0] == logged[0] and time.perf_counter() < give_up:
            time.sleep(0.0005)
        return *logged, *_only(connection, _SHOWN, names)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return *_only(connection, _LOGGED, names), *_only(connection, _SHOWN, names)


def _only(connection: Connection[Any], query: str, names: dict[str, Any]) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), names).fetchone()
    if row is None:
        raise PlcsimError(f"stream {names['stream']} of {names['device']} is not there to be read")
    return tuple(row)


def disagreement(state: Sequence[Any], parameters: int, keeps_current: bool) -> str:
    """In what a state is not that of one whole transaction; empty if it is one."""
    head, rows, first, last, ids, entered, history, process, *shown = state
    points, points_first, points_last, points_ids, current, current_first, current_last = shown
    wanted = (head, head, parameters, 1)
    checks = {
        "the history": (first, last, rows, ids) == wanted,
        "the ledger": (entered, history, process) == (head, parameters, parameters),
        "the process's rows": (points_first, points_last, points, points_ids) == wanted,
        "current values": not keeps_current
        or (current_first, current_last, current) == (head, head, parameters),
    }
    wrong = [name for name, is_right in checks.items() if not is_right]
    if not wrong:
        return ""
    seen = f"stream at {head}, history {first} to {last}, process {points_first} to {points_last}"
    return f"{' and '.join(wrong)}: {seen}, current values {current_first} to {current_last}"
