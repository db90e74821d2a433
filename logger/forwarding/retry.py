"""What to do when storing failed: by phase and type of the failure first, by SQLSTATE second.

The rule for whatever is not known: connect anew, read where the streams stand, try again with pauses.
Nothing is ever dropped because of an error; only what the database refuses for its content (poison) goes
into quarantine, one scan at a time.
"""

from __future__ import annotations

import random
from enum import StrEnum

import psycopg

from logger.errors import DatabaseError, DatabaseUnreachable, SpoolFailed, StreamMoved


class Phase(StrEnum):
    """What was under way when it failed."""

    CONNECTING = "connecting"
    """Nothing had been sent that stores: connecting, preparing, reading where the streams stand."""
    STORING = "storing"


class Action(StrEnum):
    """What a failure asks for; the value names its class in figures and logs."""

    AGAIN = "again"
    """Nothing was stored and the connection is well: the same at once, after some tries with pauses."""
    SMALLER = "smaller"
    """It took too long: the same in halves."""
    RECONNECT = "reconnect"
    """A new connection, nothing was stored."""
    FIND_OUT = "find out"
    """The outcome is unknown: a new connection, and the streams' rows say what was stored."""
    WAIT = "wait"
    """The server lacks something, or is broken: long pauses, alarm."""
    CONFIGURATION = "configuration"
    """Schema, rights, settings: a person must act; slow tries, alarm. Never the fault of the data."""
    PARTITION = "partition"
    """The table has no partition for these times: make it, then the same again."""
    POISON = "poison"
    """The data will never be taken: find the scan by halves, put it into quarantine."""


_A = Action
_BY_CODE: dict[str, Action] = {
    **dict.fromkeys(("40001", "40P01", "55P03"), _A.AGAIN),  # serialization, deadlock, lock_timeout
    "57014": _A.SMALLER,  # statement_timeout, or a cancel (our own deadline's too)
    **dict.fromkeys(("57P01", "57P02", "57P03", "57P05"), _A.RECONNECT),  # shutdown, crash, starting, idle
    **dict.fromkeys(("25P03", "25P04"), _A.RECONNECT),  # idle in transaction, transaction_timeout
    "25006": _A.RECONNECT,  # read-only: a standby, or a primary that was demoted
    "25P02": _A.RECONNECT,  # in a failed transaction: ours to avoid, a new connection ends it
    **dict.fromkeys(("08007", "40003"), _A.FIND_OUT),  # resolution or completion unknown
    "42P07": _A.AGAIN,  # somebody else made the same partition meanwhile
    "21000": _A.CONFIGURATION,  # a row twice in one statement: ours to avoid, not the data's fault
}
_BY_CLASS: dict[str, Action] = {
    "08": _A.RECONNECT,  # connection
    "22": _A.POISON,  # data
    "23": _A.POISON,  # constraints
    "28": _A.CONFIGURATION,  # who we are
    "3D": _A.CONFIGURATION,  # no such database
    "3F": _A.CONFIGURATION,  # no such schema
    "42": _A.CONFIGURATION,  # tables, columns, rights
    "53": _A.WAIT,  # disk full, memory, connections
    "54": _A.SMALLER,  # a limit of the program: statement too large
    "58": _A.WAIT,  # input and output
    "XX": _A.WAIT,  # internal error, data corrupted
}
_NO_PARTITION = "23514"


def action_for(failure: BaseException, phase: Phase) -> Action | None:
    """What to do after a failure; None: a bug, not a failure of the database.

    Classes and codes: PostgreSQL's appendix A. A lost socket, a refused connection and most crashes
    carry no code at all, and 25P03, 25P04 and 25006 are no OperationalError.
    """
    if isinstance(failure, DatabaseUnreachable):
        return Action.RECONNECT
    if isinstance(failure, StreamMoved):
        return Action.FIND_OUT
    if isinstance(failure, OSError | SpoolFailed):  # the disk below the spool
        return Action.WAIT
    if isinstance(failure, DatabaseError):  # it refuses us, or took fewer rows than it was sent
        return Action.CONFIGURATION
    if not isinstance(failure, psycopg.Error):
        return None
    code = failure.sqlstate
    if code is None:
        return _without_code(failure, phase)
    if code == _NO_PARTITION and failure.diag.constraint_name is None:
        return Action.PARTITION  # a CHECK names its constraint, a missing partition has none to name
    action = _BY_CODE.get(code) or _BY_CLASS.get(code[:2], Action.RECONNECT)
    if phase is Phase.CONNECTING:
        return {Action.POISON: Action.CONFIGURATION, Action.SMALLER: Action.AGAIN}.get(action, action)
    return action


def _without_code(failure: psycopg.Error, phase: Phase) -> Action:
    """Raised by libpq or psycopg themselves."""
    if phase is Phase.CONNECTING:
        return Action.RECONNECT
    if isinstance(failure, psycopg.DataError):  # a NUL byte in a text, say: it was never sent
        return Action.POISON
    return Action.FIND_OUT


class BackOff:
    """Pauses that grow, each drawn from the whole range below its bound ("full jitter")."""

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self.failures = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        self.failures += 1
        bound = min(self._longest_s, self._shortest_s * 2 ** min(self.failures, 32))
        return random.uniform(min(self._shortest_s, bound), bound)

    def reset(self) -> None:
        """It went well: the next pause is short again."""
        self.failures = 0
