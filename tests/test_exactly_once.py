"""Exactly once, whatever breaks: backends killed under load, connections cut around the commit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fix_forwarder import OVEN_1, Start, Storing
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import BAKING, Oven
from waiting import wait_for

from logger.forwarding import anchoring, writer
from logger.forwarding.gathering import Lane
from logger.repositories import BaselineRepository
from logger.scan import Gap, Item, Scan

SCANS = 200
STORES = b"synchronizing"
"""Is in the request that stores, as a parameter; several statements end in a COMMIT of their own."""


@pytest.fixture
def start(storing: Start, proxy: Proxy) -> Start:
    """Starts the storing half of a logger behind the proxy."""
    return lambda **more: storing(through=proxy, **more).start()


def put(run: Storing, items: Sequence[Item], most_waiting: int = 5) -> Iterator[Item]:
    """Hand the items over as fast as they are stored; yields each before."""
    for item in items:
        yield item
        run.spool.put(OVEN_1, item)
        wait_for(lambda: waits(run) < most_waiting or run.forwarder.failed, 20, "scans to be stored")


def waits(run: Storing) -> int:
    """Items that were put and are not stored, accepted or not."""
    return run.spool.next_number(OVEN_1) - run.spool.first_unreleased(OVEN_1)


def check(run: Storing, items: Sequence[Item]) -> None:
    """Every item is in the database once, and was told once."""
    assert run.close() == 0
    assert run.forwarder.failed is None
    size = run.ovens[OVEN_1].layout.size
    scans = [item for item in items if isinstance(item, Scan)]
    rows = run.schema.rows
    assert rows("SELECT scan, count(*) FROM parameter_value_history GROUP BY 1 ORDER BY 1") == [
        (scan.number, size) for scan in scans
    ]
    assert rows("SELECT scan, count(*) FROM process_data_points GROUP BY 1 ORDER BY 1") == [
        (scan.number, size) for scan in scans if scan.process_number
    ]
    ledger = rows("SELECT first_scan, last_scan FROM logging_transactions ORDER BY first_scan")
    covered = [number for first, last in ledger for number in range(first, last + 1)]
    assert covered == list(range(1, covered[-1] + 1))
    assert run.scans_told == [scan.number for scan in scans]
    told = {each.batch.transaction_id for each in run.told}
    gaps = {transaction_id for (transaction_id,) in rows("SELECT transaction_id FROM scan_gaps")}
    assert told | gaps == {t for (t,) in rows("SELECT transaction_id FROM logging_transactions")}


def load(oven: Oven) -> list[Item]:
    """Idle, a process, another one, idle, and so on, with a gap now and then."""
    items: list[Item] = []
    for number in range(1, SCANS + 1):
        turn = number // 15
        process = BAKING + turn if turn % 3 else None
        items.append(Gap(number, number, "missed") if number % 23 == 0 else oven.scan(number, process))
    return items


def test_killed_backends_lose_and_repeat_nothing(
    schema: Schema, oven: Oven, proxy: Proxy, start: Start
) -> None:
    run, items, killed = start(), load(oven), 0
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'proxied'"
    for number, _ in enumerate(put(run, items)):
        if number % 6 == 0:
            killed += schema.value(kill)
    check(run, items)
    reconnects = run.forwarder.figures().reconnects
    assert killed >= 20
    assert reconnects >= 10
    print(f"\n{killed} backends killed, {reconnects} reconnects over {SCANS} scans")


@pytest.mark.parametrize("fate", ["request", "reply", "late", "any"])
def test_connections_cut_around_the_commit_lose_and_repeat_nothing(
    oven: Oven, proxy: Proxy, start: Start, fate: str
) -> None:
    run, items, dice = start(), load(oven), random.Random(2024)
    spared = True

    def choose(request: bytes) -> str | None:
        nonlocal spared
        if STORES in request or b"COMMIT" in request:
            spared = not spared or dice.random() < 0.5  # never twice running: the second one has to wait
            if not spared:
                return dice.choice(["request", "reply", "late"]) if fate == "any" else fate
        return None

    proxy.fate = choose
    list(put(run, items))
    proxy.fate = lambda request: None
    check(run, items)
    assert proxy.landed.total() >= 15
    print(f"\n{dict(proxy.landed)} over {SCANS} scans, {len(run.told)} batches")


def test_many_streams_in_one_transaction_lose_and_repeat_nothing(
    schema: Schema, proxy: Proxy, storing: Start
) -> None:
    """The same where one COMMIT is for several streams."""
    ovens, dice, most = [Oven(f"oven-{n}") for n in range(1, 6)], random.Random(7), 40
    run = storing(*ovens, through=proxy)

    def choose(request: bytes) -> str | None:
        landing = STORES in request or b"COMMIT" in request
        return dice.choice(["request", "reply", "late"]) if landing and dice.random() < 0.3 else None

    proxy.fate = choose
    run.start()
    for number in range(1, most + 1):
        for key, oven in run.ovens.items():
            run.spool.put(key, oven.scan(number, BAKING if number // 9 % 2 else None))
        run.spool.flush(10)
        wait_for(lambda: run.waits() < 20, 20, "scans to be stored")
    proxy.fate = lambda request: None
    assert run.close() == 0
    for key in run.ovens:
        stored = schema.rows(
            "SELECT scan, count(*) FROM parameter_value_history WHERE device_id = %s GROUP BY 1 ORDER BY 1",
            key.device_id,
        )
        assert stored == [(number, 5) for number in range(1, most + 1)]
        assert [s.number for each in run.told if each.key == key for s in each.scans] == [
            n for n, _ in stored
        ]
    assert proxy.landed.total() >= 15
    print(f"\n{dict(proxy.landed)}, {run.forwarder.figures().transactions} transactions")


def without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the protection out: after a failure go on behind whatever the row says, with what waits."""
    settle = writer.Writer._settle

    def careless(self: writer.Writer, opened: anchoring.Opened) -> None:
        lane: Lane = opened.lane
        if lane.head is None:
            settle(self, opened)
            return
        lane.stream, lane.offset = opened.stream, opened.stream.head.last_scan + 1 - lane.next
        lane.head = opened.stream.head

    monkeypatch.setattr(writer.Writer, "_settle", careless)


def insisting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the protection out: send the same again without looking at the stream."""
    settle = writer.Writer._settle

    def stubborn(self: writer.Writer, opened: anchoring.Opened) -> None:
        lane: Lane = opened.lane
        known = lane.head
        settle(self, opened) if known is None else None
        if known is not None:
            opened.stream.standing = type(opened.stream.standing)(known)
            lane.stream, lane.offset = opened.stream, opened.offset

    monkeypatch.setattr(writer.Writer, "_settle", stubborn)


@pytest.mark.parametrize(("protection_taken_out", "copies"), [(without_asking, 2), (insisting, 1)])
def test_lost_reply_repeats_or_stops_without_the_stream(
    schema: Schema,
    oven: Oven,
    proxy: Proxy,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    protection_taken_out: Callable[[pytest.MonkeyPatch], None],
    copies: int,
) -> None:
    """The negative control: a forwarder that does not ask the stream's row does not survive a lost reply."""
    run = start()
    run.put(oven.scan(1))
    run.until_stored()
    protection_taken_out(monkeypatch)
    proxy.fate = once("reply")
    run.put(oven.scan(2))
    left = run.close(1)
    assert schema.value("SELECT count(*) FROM parameter_value_history WHERE value = 204") == copies
    assert left == (0 if copies == 2 else 1)  # stored twice, or stuck for ever
    assert proxy.landed["reply"] == 1


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
    schema: Schema, oven: Oven, proxy: Proxy, start: Start
) -> None:
    run, items = start(), [oven.scan(1), oven.scan(2)]
    proxy.release_late.clear()
    proxy.fate = once("late", late_commit(schema, proxy))
    list(put(run, items, most_waiting=1))
    check(run, items)
    assert run.forwarder.figures().reconnects == 2


def test_late_commit_stops_a_forwarder_that_forgets_its_attempts(
    schema: Schema, oven: Oven, proxy: Proxy, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test before."""
    settle = writer.Writer._settle

    def forgetful(self: writer.Writer, opened: anchoring.Opened) -> None:
        opened.lane.unknown.clear()
        settle(self, opened)

    monkeypatch.setattr(writer.Writer, "_settle", forgetful)
    run = start()
    proxy.release_late.clear()
    proxy.fate = once("late", late_commit(schema, proxy))
    run.put(oven.scan(1))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert "where this logger did not put it" in str(run.forwarder.failed)


def test_late_attempt_finds_the_second_one_stored_and_does_nothing(
    oven: Oven, proxy: Proxy, start: Start
) -> None:
    run, items = start(), [oven.scan(1), oven.scan(2)]
    proxy.release_late.clear()
    proxy.fate = once("late")
    list(put(run, items, most_waiting=1))
    proxy.release_late.set()
    check(run, items)
    assert run.forwarder.figures().reconnects == 1


def test_restart_while_an_attempt_of_the_run_before_is_still_on_its_way(
    schema: Schema, oven: Oven, proxy: Proxy, storing: Start
) -> None:
    """The logger dies, the next one starts, and the old connection commits after that."""
    first = storing(through=proxy).start()
    proxy.release_late.clear()
    proxy.fate = once("late", "request", "request", "request", "request")
    first.put(oven.scan(1))
    wait_for(lambda: proxy.landed["late"] == 1, what="the attempt")
    assert first.close(0) == 1
    landed: list[None] = []

    def commit() -> None:
        late_commit(schema, proxy)()
        landed.append(None)

    proxy.fate = once(commit)
    second = storing(through=proxy).start()
    second.put(oven.scan(2))
    assert second.close() == 0
    assert landed == [None]
    assert schema.rows("SELECT scan, count(*) FROM parameter_value_history GROUP BY 1 ORDER BY 1") == [
        (1, 5),
        (2, 5),
    ]


def test_scans_of_another_logger_are_never_taken_for_ours(
    schema: Schema, oven: Oven, proxy: Proxy, start: Start
) -> None:
    run = start()
    other = schema.stream(BaselineRepository, oven.config)
    claimed = once(lambda: schema.stream(BaselineRepository, oven.config).store(theirs))
    theirs = oven.batch(*oven.run_of(1, 9))

    def choose(request: bytes) -> str | None:
        if STORES in request:
            claimed(request)
            return "request"
        return None

    proxy.fate = choose
    run.put(oven.scan(1))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert "taken over by another logger after scan 9" in str(run.forwarder.failed)
    assert other.key == OVEN_1
    assert run.close() == 1  # still there: dropping it would have lost it
    assert run.told == []


def test_copy_of_a_spool_in_use_is_told_from_our_own_attempts(
    schema: Schema, oven: Oven, proxy: Proxy, start: Start
) -> None:
    """A second logger with the same identity: what it stored is not what we tried to store."""
    run = start()
    run.put(oven.scan(1))
    run.until_stored()
    twin = BaselineRepository(schema.connect()).open(OVEN_1, writer=run.spool.writer)
    theirs = once(lambda: twin.store(oven.batch(*oven.run_of(2, 9))))

    def choose(request: bytes) -> str | None:
        if STORES in request:
            theirs(request)
            return "request"
        return None

    proxy.fate = choose
    run.put(oven.scan(2))
    wait_for(lambda: run.forwarder.failed, what="it to stop")
    assert "stands at scan 9, where this logger did not put it" in str(run.forwarder.failed)
    assert run.close() == 1
