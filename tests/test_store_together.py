"""Several streams in one transaction: all or none, and no commit is believed without its proof."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from fix_postgres import WRITER, Schema
from fix_proxy import Proxy
from fix_scans import BAKING, HEAT, Oven
from waiting import wait_for

from logger.database import register_device
from logger.errors import DatabaseError, StreamMoved
from logger.repositories import (
    MOST_STREAMS,
    BaselineRepository,
    Repository,
    SharedSynchronizingRepository,
    Stream,
    SynchronizingRepository,
    transaction,
)
from logger.repositories.prepared import Session
from logger.repositories.transaction import Transaction
from logger.scan import Batch, Gap, Quality, StreamKey

KINDS = [BaselineRepository, SharedSynchronizingRepository]
Work = list[tuple[Stream, Batch | Gap]]


@pytest.fixture
def ovens() -> list[Oven]:
    return [Oven(f"oven-{n}") for n in range(1, 6)]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Repository]:
    return request.param  # type: ignore[no-any-return]


def opened(
    schema: Schema, kind: type[Repository], ovens: list[Oven], conninfo: str = ""
) -> tuple[Repository, list[Stream]]:
    """One repository, and a stream of it for each oven."""
    connection = schema.connect(conninfo)
    for oven in ovens:
        register_device(connection, oven.config)
    repository = kind(connection)
    return repository, [repository.open(StreamKey(o.layout.device_id), "bake", WRITER) for o in ovens]


def work_of(streams: list[Stream], ovens: list[Oven], process: int | None = None) -> Work:
    """The next two scans of each."""
    return [
        (stream, oven.batch(*oven.run_of(stream.head.last_scan + 1, stream.head.last_scan + 2, process)))
        for stream, oven in zip(streams, ovens, strict=True)
    ]


def standing(schema: Schema) -> list[Any]:
    return schema.rows("SELECT device_id, last_scan, head_hash FROM logging_streams ORDER BY 1, 2")


def heads(streams: list[Stream]) -> list[Any]:
    return [(s.key.device_id, s.head.last_scan, s.head.head_hash) for s in streams]


def test_streams_that_are_stored_together_are_stored_as_each_by_itself(
    schema: Schema, kind: type[Repository], ovens: list[Oven]
) -> None:
    repository, streams = opened(schema, kind, ovens)
    repository.store_together(list(reversed(work_of(streams, ovens))))
    repository.store_together(
        [
            *work_of(streams[:2], ovens[:2], BAKING),
            (streams[2], Gap(3, 7, "missed", 10**15, 10**15 + 4)),
            (streams[3], ovens[3].batch(ovens[3].scan(3, bad={HEAT: Quality.BAD_COMMUNICATION}))),
        ]
    )
    assert standing(schema) == heads(streams)
    assert [stream.head.last_scan for stream in streams] == [4, 4, 7, 3, 2]
    assert [stream.process_number for stream in streams] == [BAKING, BAKING, None, None, None]
    assert schema.value("SELECT count(DISTINCT xmin::text) FROM logging_transactions") == 2
    assert schema.rows(
        "SELECT device_id, count(*), count(DISTINCT scan) FROM parameter_value_history GROUP BY 1 ORDER BY 1"
    ) == [(f"oven-{n}", 5 * scans, scans) for n, scans in enumerate([4, 4, 2, 3, 2], 1)]
    assert schema.rows("SELECT device_id, first_scan FROM process_executions ORDER BY 1") == [
        ("oven-1", 3),
        ("oven-2", 3),
    ]
    again = opened(schema, kind, ovens)[1]
    assert [stream.standing for stream in again] == [stream.standing for stream in streams]


def test_a_stream_may_go_on_several_times_in_one_transaction(
    schema: Schema, kind: type[Repository], ovens: list[Oven]
) -> None:
    repository, (stream, other) = opened(schema, kind, ovens[:2])
    oven = ovens[0]
    repository.store_together(
        [
            (stream, oven.batch(oven.scan(1))),
            (other, ovens[1].batch(ovens[1].scan(1))),
            (stream, oven.batch(*oven.run_of(2, 3, BAKING))),
            (stream, Gap(4, 5, "missed")),
            (stream, oven.batch(oven.scan(6, BAKING + 1))),
        ]
    )
    assert standing(schema) == heads([stream, other])
    assert schema.rows(
        "SELECT first_scan, last_scan, previous_hash = lag(hash) OVER (ORDER BY first_scan)"
        " FROM logging_transactions WHERE device_id = 'oven-1' ORDER BY 1"
    ) == [(1, 1, None), (2, 3, True), (4, 5, True), (6, 6, True)]
    assert schema.rows(
        "SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions ORDER BY 2"
    ) == [
        (BAKING, 2, False),
        (BAKING + 1, 6, True),
    ]


POISONS: dict[str, str] = {
    "a row": "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN IF NEW.device_id = 'oven-3' THEN RAISE 'poison' USING ERRCODE = '22003'; END IF;"
    " RETURN NEW; END$$;"
    " CREATE TRIGGER poison BEFORE INSERT ON parameter_value_history FOR EACH ROW EXECUTE FUNCTION poison()",
    "a swallowed row": "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN RETURN CASE WHEN NEW.device_id = 'oven-3' THEN NULL ELSE NEW END; END$$;"
    " CREATE TRIGGER poison BEFORE INSERT ON parameter_value_history FOR EACH ROW EXECUTE FUNCTION poison()",
    "at the commit": "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN IF NEW.device_id = 'oven-3' THEN RAISE 'poison' USING ERRCODE = '22003'; END IF;"
    " RETURN NULL; END$$;"
    " CREATE CONSTRAINT TRIGGER poison AFTER UPDATE ON logging_streams DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION poison()",
    "another writer": "UPDATE logging_streams SET writer = gen_random_uuid() WHERE device_id = 'oven-3'",
    "another head": "UPDATE logging_streams SET last_scan = 7 WHERE device_id = 'oven-3'",
}


@pytest.mark.parametrize("poison", POISONS)
def test_one_poisoned_stream_keeps_all_from_being_stored(
    schema: Schema, kind: type[Repository], ovens: list[Oven], poison: str
) -> None:
    repository, streams = opened(schema, kind, ovens)
    repository.store_together(work_of(streams, ovens))
    schema.rows(POISONS[poison])
    before, stood = schema.contents(), heads(streams)
    with pytest.raises((psycopg.Error, DatabaseError)) as caught:
        repository.store_together(work_of(streams, ovens, BAKING))
    assert isinstance(caught.value, StreamMoved) == poison.startswith("another")
    assert schema.contents() == before
    assert heads(streams) == stood
    assert all(stream.is_certain and stream.attempted for stream in streams)
    without = [(stream, item) for stream, item in work_of(streams, ovens, BAKING) if stream is not streams[2]]
    repository.store_together(without)  # the negative control: it was the poison; and we can go on
    assert [stream.head.last_scan for stream in streams] == [4, 4, 2, 4, 4]
    assert schema.contents() != before


@pytest.mark.parametrize("together", [True, False])
def test_taken_over_stream_stores_nothing_more(
    schema: Schema, kind: type[Repository], ovens: list[Oven], together: bool
) -> None:
    repository, streams = opened(schema, kind, ovens[:2])
    count = len(streams) if together else 1
    other = kind(schema.connect()).open(streams[0].key)  # a writer of its own
    assert other.writer not in (WRITER, kind(schema.connect()).open(StreamKey("oven-1", 9)).writer)
    before = schema.contents()
    with pytest.raises(StreamMoved, match="stream 1 of oven-1"):
        repository.store_together(work_of(streams, ovens[:2])[:count])
    assert schema.contents() == before
    repository.open(streams[0].key, "bake", WRITER)  # the negative control: once it is ours again
    repository.store_together(work_of(streams, ovens[:2])[:count])


def test_too_many_streams_are_refused_before_anything_is_sent(schema: Schema) -> None:
    ovens = [Oven(f"oven-{n:03}") for n in range(MOST_STREAMS + 1)]
    repository, streams = opened(schema, BaselineRepository, ovens)
    with pytest.raises(ValueError, match="65 streams are too many"):
        repository.store_together(work_of(streams, ovens))
    repository.store_together(work_of(streams[1:], ovens[1:], BAKING))
    assert schema.value("SELECT count(*) FROM parameter_value_history") == MOST_STREAMS * 10


def test_commit_of_a_failed_transaction_is_not_taken_for_one(schema: Schema) -> None:
    connection = schema.connect()
    transaction = Transaction(Session(connection))
    for commit, is_noticed in ((connection.commit, False), (transaction.commit, True)):
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("INSERT INTO no_such_table VALUES (1)")
        if is_noticed:
            with pytest.raises(DatabaseError, match="answered COMMIT by ROLLBACK"):
                commit()
        else:
            commit()  # the negative control: psycopg's own says nothing
    assert transaction.is_certain


Choose = Callable[[bytes], str | None]


def first(sign: bytes, fate: str) -> Choose:
    """The first request that holds the sign suffers this fate."""
    left = [fate]
    return lambda request: left.pop() if sign in request and left else None


@pytest.mark.parametrize(
    ("sign", "fate", "stored", "certain"),
    [
        (b"BEGIN", "request", False, True),  # no commit was sent
        (b"BEGIN", "reply", False, True),
        (b"COMMIT", "request", False, False),
        (b"COMMIT", "reply", True, False),
        (b"COMMIT", "late", True, False),
    ],
)
def test_connection_lost_around_the_commit_of_several_streams(
    schema: Schema, ovens: list[Oven], proxy: Proxy, sign: bytes, fate: str, stored: bool, certain: bool
) -> None:
    repository, streams = opened(schema, SynchronizingRepository, ovens, proxy.conninfo)
    proxy.fate = first(sign, fate)
    with pytest.raises(psycopg.OperationalError):
        repository.store_together(work_of(streams, ovens, BAKING))
    assert proxy.landed.total() == 1
    assert {stream.is_certain for stream in streams} == {certain}
    repository, again = opened(schema, SynchronizingRepository, ovens)  # waits for the one that was cut
    for before, now in zip(streams, again, strict=True):
        assert now.head == (before.attempted if stored else before.head)
    done = work_of(streams, ovens, BAKING)
    if stored:
        with pytest.raises(StreamMoved):  # a repeat changes nothing
            repository.store_together([(now, item) for now, (_, item) in zip(again, done, strict=True)])
    else:
        repository.store_together(work_of(again, ovens, BAKING))
    assert schema.rows("SELECT device_id, count(*) FROM parameter_value_history GROUP BY 1 ORDER BY 1") == [
        (f"oven-{n}", 10) for n in range(1, 6)
    ]
    repository.close()


def test_backend_killed_between_commit_and_answer(schema: Schema, ovens: list[Oven], proxy: Proxy) -> None:
    """The commit stands, the answer never comes, for one statement and for several."""
    landed = 0
    for count in (1, 3):
        repository, streams = opened(schema, BaselineRepository, ovens[:count], proxy.conninfo)
        proxy.fate = first(b"COMMIT" if count > 1 else b"baseline", "reply")
        with pytest.raises(psycopg.OperationalError):
            repository.store_together(work_of(streams, ovens[:count]))
        landed += 1
        assert not any(stream.is_certain for stream in streams)
        again = opened(schema, BaselineRepository, ovens[:count])[1]
        assert [stream.head for stream in again] == [stream.attempted for stream in streams]
    assert proxy.landed["reply"] == landed


@pytest.mark.parametrize("waits_itself", [True, False], ids=["ours", "control"])
def test_other_threads_go_on_while_several_streams_wait_for_the_server(
    schema: Schema, ovens: list[Oven], monkeypatch: pytest.MonkeyPatch, waits_itself: bool
) -> None:
    """libpq, if it waited to send or for an answer, would hold all of them up: psycopg keeps the lock."""
    repository, streams = opened(schema, SynchronizingRepository, ovens)
    more = [
        (stream, oven.batch(*oven.run_of(1, 1000))) for stream, oven in zip(streams, ovens, strict=True)
    ]  # far more than a socket takes before the server reads on
    if not waits_itself:
        monkeypatch.setattr(transaction, "_next_answer", lambda pgconn: pgconn.get_result())
    with schema.connect() as holder, ThreadPoolExecutor(1) as aside:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM logging_streams WHERE device_id = 'oven-1' FOR UPDATE")
        pending = aside.submit(repository.store_together, more)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        with nullcontext() if waits_itself else pytest.raises(AssertionError, match="in vain"):
            wait_for(lambda: schema.value(waits, "%advanced%"), 1.5, "it to wait")
        if not waits_itself:  # we were held up until its lock_timeout of 2 s had passed
            assert isinstance(pending.exception(10), psycopg.errors.LockNotAvailable)
            return
        assert not pending.done()
        holder.execute("COMMIT")
        pending.result(10)
    assert standing(schema) == heads(streams)
