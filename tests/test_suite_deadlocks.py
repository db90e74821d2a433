"""The deadlock detector: named cycles, counts that are cross-checked, and a self-test that must fire."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fix_checks import run_part
from fix_postgres import Schema
from fix_scans import Oven
from psycopg.errors import DeadlockDetected
from waiting import wait_for

from bench.analysis.verdict import Outcome
from bench.section import Section
from bench.suite import deadlocks
from bench.suite.crowd import CrowdTotal
from bench.suite.deadlock_watch import Deadlocks, DeadlockWatch, Waiter, cycles
from bench.suite.deadlocks import CONTROL, Seen, _judge
from logger.database import register_device

NAME = "deadlock test"


def waiting(**blocked_by: tuple[int, ...]) -> dict[int, Waiter]:
    """Sessions p1, p2, … that wait for those named."""
    waiters = [Waiter(int(name[1:]), 0.0, "", blockers, "") for name, blockers in blocked_by.items()]
    return {waiter.pid: waiter for waiter in waiters}


def found(waiters: dict[int, Waiter]) -> list[tuple[int, ...]]:
    return [tuple(waiter.pid for waiter in cycle) for cycle in cycles(waiters)]


def test_cycles_are_found_once_each_and_nothing_else() -> None:
    assert found(waiting(p1=(2,), p2=(1,))) == [(1, 2)]
    assert found(waiting(p1=(2,), p2=(3,), p3=(1,))) == [(1, 2, 3)]
    assert found(waiting(p1=(2,), p2=(3,))) == []  # 3 works
    assert found(waiting(p1=(9,), p2=(9,), p3=(1, 2))) == []
    assert found(waiting(p1=(2,), p2=(1,), p3=(1,))) == [(1, 2)]  # 3 merely waits behind them
    assert found(waiting(p1=(2,), p2=(1,), p3=(4, 1), p4=(3,))) == [(1, 2), (3, 4)]
    assert found(waiting(p1=(2, 3), p2=(4,), p3=(1,), p4=(1,))) == [(1, 3), (2, 4, 1)]


def test_the_watch_names_both_keys_of_a_deadlock_while_it_stands(schema: Schema, oven: Oven) -> None:
    register_device(schema.connect(), oven.config)
    update = "UPDATE component_parameters SET set_value = 1 WHERE parameter_id = %s"
    sessions = [schema.connect(), schema.connect()]
    for session, timeout in zip(sessions, ("1h", "400ms"), strict=True):
        session.execute("SELECT set_config('application_name', %s, false)", (NAME,))
        session.execute("SELECT set_config('deadlock_timeout', %s, false)", (timeout,))

    def cross(own: int) -> int:
        """Update one row, and then the other's; returns whether that was a deadlock."""
        session, other = sessions[own], 1 - own
        try:
            with session.transaction():
                session.execute(update, (10 + own,))
                both.wait(10)
                session.execute(update, (10 + other,))
        except DeadlockDetected:
            return 1
        return 0

    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads, DeadlockWatch(schema.connect(), schema.name, NAME) as watch:
        assert sum(threads.map(cross, (0, 1))) == 1
    assert watch.error == ""
    (cycle,) = watch.cycles
    assert {(waiter.key, waiter.holds) for waiter in cycle} == {
        ("component_parameters (oven-1, 11)", (10,)),
        ("component_parameters (oven-1, 10)", (11,)),
    }
    assert all(waiter.statement.startswith("UPDATE component_parameters") for waiter in cycle)


def test_the_watch_sees_no_deadlock_in_mere_waiting(schema: Schema, oven: Oven) -> None:
    register_device(schema.connect(), oven.config)
    update = "UPDATE component_parameters SET set_value = 1 WHERE parameter_id = 10"
    holder, waiter = schema.connect(), schema.connect()
    for session in (holder, waiter):
        session.execute("SELECT set_config('application_name', %s, false)", (NAME,))
    with ThreadPoolExecutor(1) as thread, DeadlockWatch(schema.connect(), schema.name, NAME) as watch:
        with holder.transaction():
            holder.execute(update)
            blocked = thread.submit(waiter.execute, update)
            wait_for(lambda: watch.waiting > 2, what="the watch to see who waits")
        blocked.result()
    assert watch.cycles == []


@pytest.mark.long
def test_part_fires_without_the_lock_and_not_with_it(postgres: str) -> None:
    section = run_part(postgres, deadlocks, width=84, seconds=0.4, writers=6)
    assert section.invalid == []
    assert section.outcome is Outcome.PASS
    for way in ("processes", "threads, one pool"):
        control = section.figures[f"{CONTROL}, by {way}"]
        assert control["deadlocks_told"] > 0
        assert control["deadlocks_server"] == control["deadlocks_told"]
        assert control["cycles_named"] > 0
        assert any("component_parameters (crowd-84-0, " in waiter["waits_for"]
                   for cycle in control["cycles"] for waiter in cycle)  # fmt: skip
        cured = section.figures[f"synchronizing, by {way}"]
        assert (cured["deadlocks_told"], cured["deadlocks_server"], cured["cycles_named"]) == (0, 0, 0)
        assert cured["stored"] == cured["tried"] > 0
    assert [j.metric for j in section.judgements] == ["deadlocks of baseline", "deadlocks of synchronizing"]
    assert {name: one.violations for name, one in section.verifications.items()} == dict.fromkeys(
        ("control", "A", "B"), 0
    )


def test_a_self_test_that_does_not_fire_makes_the_part_invalid() -> None:
    section = Section(deadlocks.NAME)
    silent = Seen(CrowdTotal(0), CrowdTotal(0), Deadlocks())
    _judge(section, CONTROL, True, [silent, silent], 4)
    assert len(section.invalid) == 2
    assert section.outcome is Outcome.INVALID


def test_counts_that_disagree_are_doubted() -> None:
    quiet = Seen(CrowdTotal(0), CrowdTotal(0), Deadlocks(), server=0)
    assert quiet.doubt(own_server=True) == ""
    unheard = Seen(CrowdTotal(0), CrowdTotal(0), Deadlocks(), server=2)
    assert "told of 0 deadlocks, the server counts 2" in unheard.doubt(own_server=True)
    assert unheard.doubt(own_server=False) == ""  # somebody else's, it may be
