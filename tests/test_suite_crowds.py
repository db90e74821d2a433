"""Crowds of writers, and the suite's parts concurrent and pool_use: all is counted, and classified."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from fix_checks import run_part
from fix_postgres import Schema
from waiting import wait_for

from bench.analysis.verdict import Outcome
from bench.suite import concurrent, pool_use
from bench.suite.crowd import DISJOINT, SAME, CrowdSettings, crowd_configs
from bench.suite.crowd_worker import APPLICATION
from bench.suite.crowds import Crowd, crowd_workers
from logger.database import register_devices
from plcsim.errors import PlcsimError

PARAMETERS, WRITERS = 20, 4
STORED = "SELECT count(*) FROM parameter_value_history"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s"


@pytest.fixture(scope="module")
def workers() -> Iterator[list[ProcessPoolExecutor]]:
    with crowd_workers(2) as started:
        yield started


def crowd_of(
    schema: Schema, workers: list[ProcessPoolExecutor], arm: str = "synchronizing", pool: int = 0
) -> Crowd:
    register_devices(schema.connect(), crowd_configs(PARAMETERS, WRITERS))
    settings = CrowdSettings(schema.conninfo, schema.name, arm, PARAMETERS, WRITERS, pool=pool)
    return Crowd(workers[:1] if pool else workers, settings)


@pytest.mark.parametrize("pool", [0, 2], ids=["a connection each", "one pool"])
def test_every_transaction_is_counted(schema: Schema, workers: list[ProcessPoolExecutor], pool: int) -> None:
    crowd = crowd_of(schema, workers, pool=pool)
    assert crowd.prepare(SAME, DISJOINT).stored == 2 * WRITERS
    rounds, going_on = crowd.go(SAME, rounds=3), crowd.go(DISJOINT, seconds=0.1)
    crowd.close()
    assert (rounds.tried, rounds.stored, rounds.failures) == (3 * WRITERS, 3 * WRITERS, {})
    assert going_on.stored >= WRITERS
    assert crowd.rows == PARAMETERS * (2 * WRITERS + rounds.stored + going_on.stored)
    assert crowd.rows == schema.value(STORED)
    waits = rounds.merged("pool_wait")
    assert waits.count == (rounds.stored if pool else 0)
    assert (0 < rounds.pool_busy <= 1) is bool(pool)
    wait_for(lambda: schema.value(SESSIONS, APPLICATION) == 0, what="the writers' sessions to end")


def test_a_wait_for_a_lock_is_a_timeout_and_stores_nothing(
    schema: Schema, workers: list[ProcessPoolExecutor]
) -> None:
    crowd = crowd_of(schema, workers)
    crowd.prepare(SAME)
    with schema.connect().transaction() as held:
        held.connection.execute("SELECT FROM devices FOR UPDATE")
        blocked = crowd.go(SAME)
    after = crowd.go(SAME)
    crowd.close()
    assert (blocked.stored, blocked.failures) == (0, {"statement timeout": WRITERS})
    assert blocked.merged("failed").count == WRITERS
    assert blocked.merged("response").count == 0
    assert (after.stored, after.failures) == (WRITERS, {})
    assert crowd.rows == schema.value(STORED)


def test_lost_connections_are_counted_and_nothing_is_lost_or_stored_twice(
    schema: Schema, workers: list[ProcessPoolExecutor]
) -> None:
    crowd = crowd_of(schema, workers)
    crowd.prepare(SAME, DISJOINT)
    with ThreadPoolExecutor(1) as aside:
        going = aside.submit(crowd.go, DISJOINT, 0.8)
        for _ in range(3):
            before = schema.value(STORED)
            wait_for(lambda before=before: schema.value(STORED) > before, what="the writers to go on")
            schema.value(KILL, APPLICATION)
        total = going.result()
    crowd.close()
    assert set(total.failures) == {"connection lost"}
    assert total.tried == total.stored + total.failures["connection lost"]
    assert crowd.rows == schema.value(STORED)
    twice = "SELECT count(*) - count(DISTINCT (device_id, stream_id, scan, parameter_id)) FROM"
    assert schema.value(f"{twice} parameter_value_history") == 0


def test_a_killed_worker_ends_the_part_in_one_line(schema: Schema) -> None:
    with crowd_workers(1) as mine:
        crowd = crowd_of(schema, mine)
        crowd.prepare(SAME)
        (pid,) = mine[0]._processes
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PlcsimError, match="a worker process died"):
            crowd.go(SAME)
    wait_for(lambda: schema.value(SESSIONS, APPLICATION) == 0, what="its sessions to end")


@pytest.mark.long
def test_part_concurrent_judges_what_stored_at_the_same_moment(postgres: str) -> None:
    section = run_part(postgres, concurrent, simultaneous=10, rounds=12)
    (success,) = section.judgements
    assert (success.metric, success.outcome) == ("success at 10 simultaneous transactions", Outcome.PASS)
    assert section.outcome is Outcome.PASS
    assert len(section.tables[0].rows) == 8  # two arms, two ways, two kinds of rows
    for arm in ("baseline", "synchronizing"):
        figures = section.figures[arm]
        assert figures["2 processes, same rows"]["stored"] == 120
        assert figures["2 processes, same rows"]["service_us"]["count"] == 120
        assert figures["threads of one, one pool, disjoint rows"]["pool_wait_us"]["count"] == 120
        assert figures["history_rows"] == 20 * (4 * 120 + 4 * 10)
    assert {name: one.violations for name, one in section.verifications.items()} == {"A": 0, "B": 0}


@pytest.mark.long
def test_part_pool_use_shows_that_a_small_pool_is_waited_for(postgres: str) -> None:
    section = run_part(postgres, pool_use, sizes=[1, 4], threads=4, seconds=0.6)
    for arm in ("baseline", "synchronizing"):
        small, enough = (section.figures[f"{arm}, pool of {size}"] for size in (1, 4))
        assert small["pool_wait_us"]["p50"] > 5 * enough["pool_wait_us"]["p50"]
        assert (small["pool_connections"], enough["pool_connections"]) == (1, 4)
        assert 0.3 < small["pool_busy_share"] <= 1
        assert len(small["slots_per_s"]) == 6
    assert {finding.at["pool_size"] for finding in section.findings} == {1, 4}
    assert section.outcome is Outcome.PASS
