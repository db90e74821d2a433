"""Storm and pool exhaustion on real servers, briefly: every attempt is classified, and the data is right."""

from __future__ import annotations

from typing import Any

import pytest

from bench.analysis.verdict import Outcome
from bench.load.failures import Failure
from bench.section import Section
from bench.stress import pool_exhaustion, storm
from bench.stress.context import Stress
from bench.stress.crowd import crowd
from bench.stress.crowd_worker import CrowdSettings, crowd_machine
from bench.stress.holdings import Holdings
from bench.stress.plan import PoolPlan, StormPlan, StressPlan
from bench.stress.server import stress_server
from bench.stress.window import window_of
from logger.database import connect


def schemas_left(postgres: str) -> list[Any]:
    with connect(postgres) as connection:
        statement = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^plcbench.*_(storm|pool)$'"
        return connection.execute(statement).fetchall()


def test_a_storm_on_the_same_rows_stores_all_and_leaves_nothing(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storm, "_FEWEST_TRIED", 1)
    plan = StressPlan(parameters=5, workers=2, storm=StormPlan(transactions=[3, 20], rows=["same"], waves=5))
    section = Section("storm")
    storm.run(Stress(plan, ("synchronizing", "synchronizing"), url=postgres), section)
    small, large = section.figures["storms"]
    assert (small["transactions"], small["stored"], small["tried"]) == (3, 15, 15)
    assert (large["transactions"], large["stored"], large["failures"]) == (20, 100, {})
    assert 2 <= large["at_once"] <= 20
    assert [judgement.metric for judgement in section.judgements] == [
        "success (3 at once, same rows, synchronizing)",
        "success (20 at once, same rows, synchronizing)",
    ]
    assert [judgement.outcome for judgement in section.judgements] == [Outcome.INCONCLUSIVE, Outcome.PASS]
    ((name, verification),) = section.verifications.items()
    assert (name, verification.violations) == ("synchronizing, same rows", 0)
    assert verification.checks["I6"].checked >= 115
    assert section.invalid == []
    assert section.figures["deadlocks"] == [
        {"repository": "synchronizing", "rows": "same", "server": 0, "clients": 0}
    ]
    assert schemas_left(postgres) == []


def test_a_crowd_whose_scans_somebody_removes_is_found_out(postgres: str) -> None:
    """The control: what the writers were told is not what the database holds."""
    section = Section("storm")
    with stress_server(postgres) as server:
        configs = [crowd_machine(0, 5, shared=False)]
        with server.schema("storm", configs) as schema:
            holdings = Holdings(section, server, schema, "baseline")
            settings = CrowdSettings(server.conninfo, schema, "baseline", 5, shared=False)
            with crowd(settings, 1) as writers:
                writers.resize(1)
                run = writers.run(5.0, count=4)
            assert window_of(run.attempts, run.schedule).stored == 4
            with server.connect(schema) as connection:
                connection.execute("UPDATE logging_streams SET last_scan = last_scan - 1")
            holdings.check("tampered", [writers])
    assert section.invalid == ["baseline, tampered: the writers stored 4 scans, the database holds 3"]
    assert section.verifications["baseline, tampered"].violations > 0
    assert section.outcome is Outcome.INVALID


@pytest.mark.long
def test_100_simultaneous_writers_and_every_error_has_its_class() -> None:
    """A hundred writers of one machine: all store; of those whose backends somebody ends it is told so."""
    section = Section("storm")
    settings = {"max_connections": "110"}
    with (
        stress_server(None, settings) as server,
        server.schema("storm", [crowd_machine(0, 5, shared=True)]) as schema,
    ):
        holdings = Holdings(section, server, schema, "synchronizing")
        with crowd(CrowdSettings(server.conninfo, schema, "synchronizing", 5, shared=True), 2) as writers:
            assert writers.resize(100) == {}
            run = writers.run(20.0, count=1)
            undisturbed = window_of(run.attempts, run.schedule)
            with server.connect() as killer:
                ended = killer.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 30) AS ended"
                ).fetchone()
            run = writers.run(20.0, count=2)
            disturbed = window_of(run.attempts, run.schedule)
        holdings.check("100 writers", [writers])
    assert (undisturbed.stored, undisturbed.failures) == (100, {})
    assert undisturbed.success[0] > 0.95
    assert ended == (30,)
    assert (disturbed.stored, disturbed.failures) == (170, {str(Failure.CONNECTION_LOST): 30})
    assert disturbed.failed.count == 30
    assert section.invalid == []
    assert section.verifications["synchronizing, 100 writers"].violations == 0


@pytest.mark.long
def test_without_connections_nothing_is_stored_and_afterwards_everything() -> None:
    plan = StressPlan(
        parameters=5,
        workers=1,
        pool_exhaustion=PoolPlan(
            demand=4,
            sizes=[1, 4],
            seconds=0.8,
            timeout_s=0.1,
            fault_s=0.8,
            rate_per_s=50.0,
            max_connections=12,
        ),
    )
    section = Section("pool_exhaustion")
    pool_exhaustion.run(Stress(plan, ("baseline", "baseline")), section)
    one, four = section.figures["pool_sizes"]
    waited = [figures["pool_wait"]["mean_us"] for figures in (one, four)]
    assert waited[0] > 10 * waited[1]  # four threads share one connection; or have one each
    assert one["service"]["mean_us"] < waited[0]
    leaked, full = section.figures["outages"]
    assert leaked["fault"] == "leaked connections"
    assert set(leaked["failures"]) == {"pool timeout"}
    assert leaked["stored"][1] < leaked["due"][1]
    assert full["fault"] == "max_connections reached"
    assert full["failures"]["too many connections"] >= 0.9 * full["due"][1]
    assert set(full["failures"]) == {"too many connections"}
    for outage in (leaked, full):
        assert outage["first_success_s"] < 2
        assert outage["stored"][2] > 0.5 * outage["due"][2]
    assert {name: one.violations for name, one in section.verifications.items()} == {
        "baseline, pool": 0,
        "baseline, max_connections": 0,
    }
    assert section.invalid == []
    assert [judgement.metric for judgement in section.judgements] == [
        "recovery (leaked connections, baseline)",
        "recovery (max_connections reached, baseline)",
    ]


def test_on_a_given_server_nobody_is_locked_out_and_that_is_said(postgres: str) -> None:
    plan = StressPlan(
        parameters=5, workers=1,
        pool_exhaustion=PoolPlan(demand=2, sizes=[1], seconds=0.2, timeout_s=0.1, fault_s=0.3),
    )  # fmt: skip
    section = Section("pool_exhaustion")
    pool_exhaustion.run(Stress(plan, ("baseline", "baseline"), url=postgres), section)
    assert [outage["fault"] for outage in section.figures["outages"]] == ["leaked connections"]
    (line,) = section.figures["not_measured"]
    assert line.startswith("max_connections reached: needs a server of our own")
    assert section.error == ""
    assert schemas_left(postgres) == []
