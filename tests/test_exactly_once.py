"""Exactly once, whatever breaks: backends killed under load, connections cut around the commit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import BAKING, Oven
from waiting import wait_for

from logger.database import connect
from logger.errors import StreamMoved
from logger.forwarding.forwarder import Forwarder, Stored
from logger.repositories import BaselineRepository, Repository, SynchronizingRepository
from logger.scan import Gap, Scan

SCANS = 200
STORES = b"synchronizing"
"""Is in the request that stores, as a parameter; a process change ends in a COMMIT of its own."""


class Run:
    """One forwarder behind the proxy, and what it said it has stored."""

    def __init__(self, schema: Schema, oven: Oven, proxy: Proxy, kind: type[Forwarder] = Forwarder) -> None:
        self.schema, self.oven = schema, oven
        self.told: list[Stored] = []
        schema.repository(BaselineRepository, oven.config)

        def open_repository() -> Repository:
            connection = connect(proxy.conninfo, schema.name)
            try:
                return SynchronizingRepository(connection, "oven-1", 1, "bake")
            except BaseException:
                connection.close()
                raise

        self.forwarder = kind(open_repository, oven.layout, self.told.append)
        self.forwarder.start()

    def put(self, items: list[Scan | Gap], most_waiting: int = 5) -> Iterator[Scan | Gap]:
        """Hand the items over as fast as they are stored; yields each before."""
        for item in items:
            yield item
            self.forwarder.put(item)
            wait_for(
                lambda: self.forwarder.waiting < most_waiting or self.forwarder.failed,
                20,
                "scans to be stored",
            )

    def check(self, items: list[Scan | Gap]) -> None:
        """Every item is in the database once, and was told once."""
        assert self.forwarder.close(20) == 0
        assert self.forwarder.failed is None
        scans = [item for item in items if isinstance(item, Scan)]
        rows = self.schema.rows
        assert rows("SELECT scan, count(*) FROM parameter_value_history GROUP BY 1 ORDER BY 1") == [
            (scan.number, self.oven.layout.size) for scan in scans
        ]
        assert rows("SELECT scan, count(*) FROM process_data_points GROUP BY 1 ORDER BY 1") == [
            (scan.number, self.oven.layout.size) for scan in scans if scan.process_number
        ]
        ledger = rows("SELECT first_scan, last_scan FROM logging_transactions ORDER BY first_scan")
        covered = [number for first, last in ledger for number in range(first, last + 1)]
        assert covered == list(range(1, covered[-1] + 1))
        assert [scan.number for each in self.told for scan in each.scans] == [s.number for s in scans]
        told = {each.batch.transaction_id for each in self.told}
        gaps = {transaction_id for (transaction_id,) in rows("SELECT transaction_id FROM scan_gaps")}
        assert told | gaps == {t for (t,) in rows("SELECT transaction_id FROM logging_transactions")}


def load(oven: Oven) -> list[Scan | Gap]:
    """Idle, a process, another one, idle, and so on, with a gap now and then."""
    items: list[Scan | Gap] = []
    for number in range(1, SCANS + 1):
        turn = number // 15
        process = BAKING + turn if turn % 3 else None
        items.append(Gap(number, number, "missed") if number % 23 == 0 else oven.scan(number, process))
    return items


def test_killed_backends_lose_and_repeat_nothing(schema: Schema, oven: Oven, proxy: Proxy) -> None:
    run, items, killed = Run(schema, oven, proxy), load(oven), 0
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'proxied'"
    for number, _ in enumerate(run.put(items)):
        if number % 6 == 0:
            killed += schema.value(kill)
    run.check(items)
    assert killed >= 20
    assert run.forwarder.reconnects >= 10
    print(f"\n{killed} backends killed, {run.forwarder.reconnects} reconnects over {SCANS} scans")


@pytest.mark.parametrize("fate", ["request", "reply", "late", "any"])
def test_connections_cut_around_the_commit_lose_and_repeat_nothing(
    schema: Schema, oven: Oven, proxy: Proxy, fate: str
) -> None:
    run, items, dice = Run(schema, oven, proxy), load(oven), random.Random(2024)
    spared = True

    def choose(request: bytes) -> str | None:
        nonlocal spared
        if STORES in request or b"COMMIT" in request:
            spared = not spared or dice.random() < 0.5  # never twice running: the second one has to wait
            if not spared:
                return dice.choice(["request", "reply", "late"]) if fate == "any" else fate
        return None

    proxy.fate = choose
    list(run.put(items))
    proxy.fate = lambda request: None
    run.check(items)
    assert proxy.landed.total() >= 15
    print(f"\n{dict(proxy.landed)} over {SCANS} scans, {len(run.told)} batches")


class Renumbering(Forwarder):
    """Goes on from the new head without asking what it was: takes every failure for "nothing stored"."""

    def _find_out(self, attempt: Any, failure: Any) -> None:
        self._reopen()
        next_scan = self._repository.head.last_scan + 1
        for i, item in enumerate(list(self._waiting)):
            assert isinstance(item, Scan)
            self._waiting[i] = replace(item, number=next_scan + i)


class Insisting(Forwarder):
    """Sends the same again without looking at the stream."""

    def _find_out(self, attempt: Any, failure: Any) -> None:
        if isinstance(failure, StreamMoved):
            raise failure
        self._reopen()


@pytest.mark.parametrize(("kind", "breaks"), [(Renumbering, False), (Insisting, True)])
def test_lost_reply_repeats_or_stops_without_the_stream(
    schema: Schema, oven: Oven, proxy: Proxy, kind: type[Forwarder], breaks: bool
) -> None:
    """The negative control: forwarders that do not ask the stream's row do not survive one lost reply."""
    run = Run(schema, oven, proxy, kind)
    proxy.fate = once("reply")
    run.forwarder.put(oven.scan(1))
    run.forwarder.close(10)
    stored = schema.value("SELECT count(*) FROM parameter_value_history WHERE value = 104")
    assert (stored, isinstance(run.forwarder.failed, StreamMoved)) == ((1, True) if breaks else (2, False))
    with pytest.raises(AssertionError):
        run.check([oven.scan(1)])


def once(*fates: str | Callable[[], Any] | None) -> Callable[[bytes], str | None]:
    """The first requests that store suffer these fates, or have these things done before they go on."""
    left = list(fates)

    def choose(request: bytes) -> str | None:
        if STORES not in request or not left:
            return None
        fate = left.pop(0)
        return fate() and None if callable(fate) else fate

    return choose


def late_commit(schema: Schema, proxy: Proxy) -> Callable[[], None]:
    """Lets the first attempt, of a connection long cut, commit just before the second."""

    def commit() -> None:
        proxy.release_late.set()
        wait_for(lambda: schema.value("SELECT last_scan FROM logging_streams") == 1, what="the late commit")

    return commit


def test_attempt_that_commits_after_its_connection_was_given_up_is_our_own(
    schema: Schema, oven: Oven, proxy: Proxy
) -> None:
    run, items = Run(schema, oven, proxy), [oven.scan(1), oven.scan(2)]
    proxy.release_late.clear()
    proxy.fate = once("late", late_commit(schema, proxy))
    list(run.put(items, most_waiting=1))
    run.check(items)
    assert run.forwarder.reconnects == 2


def test_late_commit_stops_a_forwarder_that_forgets_its_attempts(
    schema: Schema, oven: Oven, proxy: Proxy
) -> None:
    """The negative control of the test before."""

    class Forgetful(Forwarder):
        def _reopen(self) -> None:
            super()._reopen()
            self._unknown.clear()

    run = Run(schema, oven, proxy, Forgetful)
    proxy.release_late.clear()
    proxy.fate = once("late", late_commit(schema, proxy))
    run.forwarder.put(oven.scan(1))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert isinstance(run.forwarder.failed, StreamMoved)


def test_late_attempt_finds_the_second_one_stored_and_does_nothing(
    schema: Schema, oven: Oven, proxy: Proxy
) -> None:
    run, items = Run(schema, oven, proxy), [oven.scan(1), oven.scan(2)]
    proxy.release_late.clear()
    proxy.fate = once("late")
    list(run.put(items, most_waiting=1))
    proxy.release_late.set()
    run.check(items)
    assert run.forwarder.reconnects == 1


def test_scans_of_another_logger_are_never_taken_for_ours(schema: Schema, oven: Oven, proxy: Proxy) -> None:
    run = Run(schema, oven, proxy)
    other = schema.repository(BaselineRepository, oven.config)
    theirs = once(lambda: other.store(oven.batch(*oven.run_of(1, 9))))

    def choose(request: bytes) -> str | None:
        if STORES in request:
            theirs(request)
            return "request"
        return None

    proxy.fate = choose
    run.forwarder.put(oven.scan(1))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert isinstance(run.forwarder.failed, StreamMoved)
    assert "stands at scan 9, where this logger did not put it" in str(run.forwarder.failed)
    assert run.forwarder.close() == 1  # still there: dropping it would have lost it
    assert run.told == []
