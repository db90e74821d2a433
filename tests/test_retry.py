"""What a failure asks for: every row of the table of PostgreSQL's error codes, and how pauses grow."""

from __future__ import annotations

import psycopg
import pytest
from fix_postgres import Schema
from psycopg import errors

from logger.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable, SpoolFailed, StreamMoved
from logger.forwarding.retry import Action, BackOff, Phase, action_for

BY_CODE = {
    "40001": Action.AGAIN,  # serialization failure
    "40P01": Action.AGAIN,  # deadlock
    "55P03": Action.AGAIN,  # lock_timeout
    "57014": Action.SMALLER,  # statement_timeout, cancel
    "57P01": Action.RECONNECT,  # admin shutdown
    "57P02": Action.RECONNECT,  # crash shutdown
    "57P03": Action.RECONNECT,  # starting up
    "57P05": Action.RECONNECT,  # idle session
    "25P03": Action.RECONNECT,  # idle in transaction: an InternalError
    "25P04": Action.RECONNECT,  # transaction_timeout: an InternalError
    "25006": Action.RECONNECT,  # read-only: an InternalError
    "25P02": Action.RECONNECT,  # in a failed transaction
    "08000": Action.RECONNECT,
    "08001": Action.RECONNECT,
    "08003": Action.RECONNECT,
    "08004": Action.RECONNECT,
    "08006": Action.RECONNECT,
    "08P01": Action.RECONNECT,
    "08007": Action.FIND_OUT,  # resolution unknown
    "40003": Action.FIND_OUT,  # completion unknown
    "53100": Action.WAIT,  # disk full
    "53200": Action.WAIT,  # out of memory
    "53300": Action.WAIT,  # too many connections
    "53400": Action.WAIT,  # limit exceeded
    "58030": Action.WAIT,  # input, output
    "XX000": Action.WAIT,  # internal error
    "XX001": Action.WAIT,  # data corrupted
    "22003": Action.POISON,  # out of range
    "22P02": Action.POISON,  # not a value of the type
    "22021": Action.POISON,  # not in the encoding
    "22P05": Action.POISON,  # cannot be translated
    "23502": Action.POISON,  # not null
    "23503": Action.POISON,  # foreign key
    "23505": Action.POISON,  # unique: never our own key, which the stream's row guards
    "21000": Action.CONFIGURATION,  # a row twice in one statement
    "42P01": Action.CONFIGURATION,  # no such table
    "42703": Action.CONFIGURATION,  # no such column
    "42501": Action.CONFIGURATION,  # no right
    "3F000": Action.CONFIGURATION,  # no such schema
    "0A000": Action.RECONNECT,  # whatever is not known: never dropped
    "99999": Action.RECONNECT,
}


def raised(schema: Schema, code: str) -> psycopg.Error:
    """What psycopg makes of an error that a real server sends with this code."""
    with pytest.raises(psycopg.Error) as caught:
        schema.rows(f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{code}'; END $$")
    return caught.value


def test_every_code_asks_for_its_action(schema: Schema) -> None:
    asked = {code: action_for(raised(schema, code), Phase.STORING) for code in BY_CODE}
    assert asked == BY_CODE


def test_operational_errors_alone_would_miss_three(schema: Schema) -> None:
    """The reason why codes decide, not classes."""
    missed = [
        c for c in ("25P03", "25P04", "25006") if not isinstance(raised(schema, c), errors.OperationalError)
    ]
    assert missed == ["25P03", "25P04", "25006"]


def test_check_is_poison_and_a_missing_partition_is_not(schema: Schema) -> None:
    schema.rows("ALTER TABLE scan_gaps ADD CONSTRAINT short CHECK (length(reason) < 9)")
    gap = "INSERT INTO scan_gaps VALUES ('d', 1, 1, 1, 'a long reason', gen_random_uuid())"
    with pytest.raises(errors.CheckViolation) as check:
        schema.rows(gap)
    assert action_for(check.value, Phase.STORING) is Action.POISON
    with pytest.raises(errors.CheckViolation) as partition:
        schema.rows(
            "INSERT INTO parameter_value_history (recorded_at, scan, transaction_id, stream_id, parameter_id,"
            " quality, device_id) VALUES ('1999-01-01', 1, gen_random_uuid(), 1, 1, 192, 'd')"
        )
    assert action_for(partition.value, Phase.STORING) is Action.PARTITION


@pytest.mark.parametrize(
    ("failure", "connecting", "storing"),
    [
        # A lost socket, a refused connection, a crash: most of all failures, without a code.
        (psycopg.OperationalError("server closed"), Action.RECONNECT, Action.FIND_OUT),
        (psycopg.InterfaceError("the connection is closed"), Action.RECONNECT, Action.FIND_OUT),
        (psycopg.DataError("cannot contain NUL"), Action.RECONNECT, Action.POISON),
        (DatabaseUnreachable("nobody there"), Action.RECONNECT, Action.RECONNECT),
        (DatabaseRefused("wrong password"), Action.CONFIGURATION, Action.CONFIGURATION),
        (DatabaseError("took fewer rows"), Action.CONFIGURATION, Action.CONFIGURATION),
        (StreamMoved("elsewhere"), Action.FIND_OUT, Action.FIND_OUT),
        (OSError("no space"), Action.WAIT, Action.WAIT),
        (SpoolFailed("closed"), Action.WAIT, Action.WAIT),
        (ZeroDivisionError("a bug"), None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_failure_without_a_code_is_judged_by_phase_and_type(
    failure: Exception, connecting: Action | None, storing: Action | None
) -> None:
    assert action_for(failure, Phase.CONNECTING) is connecting
    assert action_for(failure, Phase.STORING) is storing


def test_nothing_is_poison_before_anything_was_sent() -> None:
    assert action_for(errors.ForeignKeyViolation(), Phase.CONNECTING) is Action.CONFIGURATION
    assert action_for(errors.QueryCanceled(), Phase.CONNECTING) is Action.AGAIN


def test_pauses_grow_to_their_bound_with_full_jitter_and_begin_anew() -> None:
    back_off = BackOff(0.1, 5.0)
    drawn = [[back_off.next_s() for _ in range(50)] for _ in range(40)]
    assert all(0.1 <= seconds <= 5.0 for row in drawn for seconds in row)
    assert 2.0 < sum(drawn[1]) / 50 < 3.2  # uniform over the range, not at its end
    back_off.reset()
    assert [back_off.next_s() <= bound for bound in (0.2, 0.4, 0.8)] == [True] * 3
    assert back_off.failures == 3
