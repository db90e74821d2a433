"""Watches sessions wait for each other: deadlocks while they stand, with statements and keys.

A deadlock stands for `deadlock_timeout` before the server looks for it and undoes one of the two. Who
waits for a row mostly has it in pg_locks, and the row can still be read: its old version is what everybody
else sees, and the xmax of that is the transaction which holds it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, sql

from bench.load.failures import DATABASE_ERRORS

INTERVAL_S = 0.02
_MOST_KEPT = 1000
_STATEMENT_LENGTH = 500
_SHOWN = 6

_WAITING = """
SELECT w.pid, extract(epoch FROM w.xact_start)::float8, w.query, pg_blocking_pids(w.pid),
    l.relation::regclass::text, c.device_id, c.parameter_id,
    ARRAY(SELECT h.parameter_id FROM {current} h WHERE h.xmax = w.backend_xid ORDER BY 1)
FROM pg_stat_activity w
LEFT JOIN LATERAL (
    SELECT relation, page, tuple FROM pg_locks l
    WHERE l.pid = w.pid AND l.locktype = 'tuple' ORDER BY l.granted LIMIT 1
) l ON true
LEFT JOIN {current} c
    ON l.relation = {relation}::regclass AND c.ctid = format('(%s,%s)', l.page, l.tuple)::tid
WHERE w.application_name = {application} AND w.datname = current_database() AND w.wait_event_type = 'Lock'"""


@dataclass(frozen=True)
class Waiter:
    """A session that waits for a lock."""

    pid: int
    since: float
    """Start of its transaction, seconds since 1970."""
    statement: str
    blockers: tuple[int, ...]
    key: str
    """The row that it waits for, as its table and its key; or what of it is known."""
    holds: tuple[int, ...] = ()
    """Parameters whose current values it has updated, and not committed."""

    @property
    def holds_in_words(self) -> str:
        """How many rows, and which."""
        if not self.holds:
            return "none of component_parameters"
        rows = ", ".join(map(str, self.holds[:_SHOWN])) + (", …" if len(self.holds) > _SHOWN else "")
        return f"{len(self.holds)} of component_parameters: {rows}"

    def to_json(self) -> dict[str, Any]:
        return {
            "waits_for": self.key,
            "holds_parameters": list(self.holds),
            "blocked_by": list(self.blockers),
            "statement": self.statement,
        }


@dataclass
class Deadlocks:
    """What a watch saw."""

    looks: int = 0
    """How often it looked."""
    waiting: int = 0
    """Looks at which somebody waited for a lock."""
    cycles: list[tuple[Waiter, ...]] = field(default_factory=list)
    """Sessions each of which waits for the next, the last for the first; each once."""
    error: str = ""
    """Why it ended early."""


class DeadlockWatch:
    """A context manager that looks at all sessions of a name, on a connection and a thread of its own."""

    def __init__(self, connection: Connection[Any], schema: str, application: str) -> None:
        self.found = Deadlocks()
        self._connection = connection
        current = sql.Identifier(schema, "component_parameters")
        self._query = sql.SQL(_WAITING).format(
            current=current,
            relation=sql.Literal(current.as_string(connection)),
            application=sql.Literal(application),
        )
        self._seen: set[frozenset[tuple[int, float]]] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadlock watch")

    def __enter__(self) -> Deadlocks:
        self._thread.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._stop.wait(INTERVAL_S):
                self._look()
        except DATABASE_ERRORS as exc:
            self.found.error = str(exc).strip().splitlines()[0]

    def _look(self) -> None:
        waiters = {row[0]: _waiter(row) for row in self._connection.execute(self._query)}
        self.found.looks += 1
        self.found.waiting += bool(waiters)
        for cycle in cycles(waiters):
            identity = frozenset((waiter.pid, waiter.since) for waiter in cycle)
            if identity not in self._seen and len(self.found.cycles) < _MOST_KEPT:
                self._seen.add(identity)
                self.found.cycles.append(cycle)


def cycles(waiters: Mapping[int, Waiter]) -> list[tuple[Waiter, ...]]:
    """Each cycle once: sessions that wait for the next one, the last for the first; shortest first."""
    found: dict[frozenset[int], tuple[Waiter, ...]] = {}
    for start in waiters:
        path = _path_back(waiters, start)
        if path:
            found.setdefault(frozenset(path), tuple(waiters[pid] for pid in path))
    return sorted(found.values(), key=len)


def _path_back(waiters: Mapping[int, Waiter], start: int) -> Sequence[int]:
    """The shortest path of waiting from a session to itself; empty if there is none."""
    paths = [[start]]
    reached = {start}
    while paths:
        longer = []
        for path in paths:
            for blocker in waiters[path[-1]].blockers:
                if blocker == start:
                    return path
                if blocker in waiters and blocker not in reached:
                    reached.add(blocker)
                    longer.append([*path, blocker])
        paths = longer
    return ()


def _waiter(row: Sequence[Any]) -> Waiter:
    pid, since, query, blockers, relation, device_id, parameter_id, held = row
    statement = " ".join(str(query).split())[:_STATEMENT_LENGTH]
    if parameter_id is not None:
        key = f"component_parameters ({device_id}, {parameter_id})"
    else:
        key = f"a row of {relation}" if relation else "one of the rows that the other holds"
    return Waiter(pid, float(since or 0), statement, tuple(blockers), key, tuple(held))
