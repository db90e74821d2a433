"""Slots in their order, and each kind of disturbance, brought about for real and noticed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import psutil
import pytest
from fix_postgres import reachable_folder
from psycopg import Connection, sql
from waiting import wait_for

from bench.load.arms import Arm, bench_server, spawn_worker, two_arms, workers_alive
from bench.load.slots import Pair, _disturbances, _shortfall, run_pairs, slot_order
from bench.load.workload import Loop, SlotRequest, SlotResult, WorkerSettings
from bench.measuring.latency import latencies_of
from bench.measuring.resources import ServerCounters, server_counters
from logger.database import connect
from plcsim.errors import PlcsimError

REQUEST = SlotRequest(5, ramp_s=0.0, saturated_s=0.08)
ORDER = [("A", "B"), ("B", "A"), ("B", "A")]


@dataclass
class MeddledArm(Arm):
    """An arm in whose next slots something else happens, too."""

    meddle: list[Callable[[], object]] = field(default_factory=list)
    """One a slot, from the first; each happens after the slot's work, while it is still being watched."""
    ran: list[SlotResult] = field(default_factory=list)

    def run(self, request: SlotRequest) -> SlotResult:
        result = super().run(request)
        self.ran.append(result)
        if self.meddle:
            self.meddle.pop(0)()
        return result


class Bench:
    """Both arms on a server with the bench's own settings, and somebody else's connection to it."""

    def __init__(
        self, arms: tuple[Arm, Arm], monitor: Connection[Any], other: Connection[Any], conninfo: str
    ) -> None:
        self.monitor, self.other, self.conninfo = monitor, other, conninfo
        self.arms = tuple(arms)

    def meddled(self, *meddle: Callable[[], object], arm: int = 1) -> tuple[MeddledArm, MeddledArm]:
        a, b = (
            MeddledArm(**{f.name: getattr(arm, f.name) for f in fields(Arm)}, meddle=[]) for arm in self.arms
        )
        (a, b)[arm].meddle.extend(meddle)
        return a, b

    def pairs(self, arms: tuple[MeddledArm, MeddledArm], pairs: int = 1, **more: Any) -> list[Pair]:
        return run_pairs(arms, REQUEST, ORDER[:pairs], self.monitor, more.pop("on_slot", int), **more)

    def checkpoint(self) -> None:
        """A checkpoint, of which the server's statistics have heard."""
        told = self.checkpoints()
        self.execute("CHECKPOINT")
        wait_for(lambda: self.checkpoints() > told)

    def checkpoints(self) -> int:
        return server_counters(self.other, "").checkpoints

    def execute(self, statement: str) -> None:
        self.other.execute(statement.encode())


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = reachable_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLCSIM_DATA_DIR", str(folder))
        with bench_server(None) as conninfo, connect(conninfo) as monitor, connect(conninfo) as other:
            settings = WorkerSettings(conninfo, "", "", (5,), running=True)
            with two_arms(monitor, ("baseline", "synchronizing"), settings) as arms:
                for arm in arms:
                    arm.run(SlotRequest(5, saturated_s=0.1))
                yield Bench(arms, monitor, other, conninfo)
            left = monitor.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%'"
            ).fetchall()
            assert left == []
    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.mark.parametrize("seed", range(6))
def test_pairs_begin_with_either_arm_in_turn_and_mirrored(seed: int) -> None:
    order = slot_order(8, seed)
    first = order[0][0]
    assert "".join(first_arm for first_arm, _ in order) == "".join({"A": "ABBAABBA", "B": "BAABBAAB"}[first])
    assert all(sorted(pair) == ["A", "B"] for pair in order)


def test_the_seed_draws_who_begins() -> None:
    assert Counter(slot_order(4, seed)[0][0] for seed in range(100)).keys() == {"A", "B"}
    assert slot_order(12, 3) == slot_order(12, 3)


def test_slots_run_in_their_order_and_say_where_they_stood(bench: Bench) -> None:
    seen = []
    pairs = bench.pairs(bench.meddled(), 3, on_slot=lambda: seen.append(1))
    assert [pair.disturbed for pair in pairs] == [(), (), ()]
    assert [(pair.a.position, pair.b.position) for pair in pairs] == [(0, 1), (3, 2), (5, 4)]
    assert [(pair.a.arm, pair.b.arm, pair.a.pair) for pair in pairs] == [("A", "B", i) for i in range(3)]
    assert len(seen) == 6
    assert pairs[0].a.hot_ratio is None  # the baseline updates nothing
    assert pairs[0].b.hot_ratio is not None
    assert pairs[0].b.hot_ratio > 0.9
    assert all(
        slot.wal_bytes > 1000 * slot.result.transactions for pair in pairs for slot in (pair.a, pair.b)
    )


@pytest.mark.parametrize("arm", [0, 1])
def test_a_checkpoint_inside_a_slot_is_noticed_and_the_pair_run_again(bench: Bench, arm: int) -> None:
    arms = bench.meddled(int, bench.checkpoint, arm=arm)
    pairs = bench.pairs(arms, 3)
    assert [pair.disturbed for pair in pairs] == [(), (), ()]
    again = pairs[1]
    assert {again.a.position, again.b.position} == {6, 7}  # behind all the others
    assert again.b.position < again.a.position  # in the same order as before
    assert [len(a.ran) for a in arms] == [4, 4]


def test_a_checkpoint_is_noticed_before_the_statistics_tell_it(bench: Bench) -> None:
    told = bench.checkpoints()
    (pair,) = bench.pairs(bench.meddled(lambda: bench.execute("CHECKPOINT")), most_repeats=0)
    assert "a checkpoint ran" in pair.disturbed
    wait_for(lambda: bench.checkpoints() > told)


def test_no_more_pairs_are_run_again_than_allowed(bench: Bench) -> None:
    arms = bench.meddled(*[bench.checkpoint] * 3)
    pairs = bench.pairs(arms, 3, most_repeats=2)
    assert [pair.disturbed for pair in pairs] == [(), (), ("a checkpoint ran",)]
    assert [len(a.ran) for a in arms] == [5, 5]


def test_a_pair_disturbed_again_stays_disturbed(bench: Bench) -> None:
    arms = bench.meddled(*[bench.checkpoint] * 2)
    (pair,) = bench.pairs(arms)
    assert pair.disturbed == ("a checkpoint ran",)


@pytest.mark.parametrize("whose", [0, 1], ids=["of arm A", "of arm B"])
@pytest.mark.parametrize("statement", ["VACUUM", "ANALYZE"])
def test_vacuum_and_analyze_inside_a_slot_are_noticed(bench: Bench, statement: str, whose: int) -> None:
    table = f"{bench.arms[whose].schema}.parameter_value_history"
    (pair,) = bench.pairs(bench.meddled(lambda: bench.execute(f"{statement} {table}")), most_repeats=0)
    assert pair.disturbed == ("a vacuum or analyze ran",)


def test_autovacuum_inside_a_slot_is_noticed(bench: Bench) -> None:
    schema = bench.arms[1].schema

    def autovacuum() -> None:
        wait_for(
            lambda: (
                bench.other.execute(
                    "SELECT sum(autovacuum_count + autoanalyze_count) > 0 FROM pg_stat_all_tables"
                    " WHERE schemaname = %s",
                    (schema,),
                ).fetchone()
                == (True,)
            ),
            deadline_s=30,
        )

    def set_nap(value: str) -> None:
        bench.execute(f"ALTER SYSTEM SET autovacuum_naptime = '{value}'")
        bench.execute("SELECT pg_reload_conf()")

    set_nap("1s")
    try:
        (pair,) = bench.pairs(bench.meddled(autovacuum), most_repeats=0)
    finally:
        set_nap("1h")
    assert "a vacuum or analyze ran" in pair.disturbed
    at_work = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    wait_for(lambda: not bench.other.execute(at_work).fetchall())


def test_an_old_snapshot_that_keeps_row_versions_alive_is_noticed(bench: Bench) -> None:
    table = f"{bench.arms[1].schema}.component_parameters"

    def work_on() -> None:
        size = sql.SQL("SELECT pg_relation_size({}) > 20 * 8192").format(table)
        wait_for(lambda: bench.arms[1].run(REQUEST) and bench.monitor.execute(size).fetchone() == (True,))

    with bench.other.transaction():
        bench.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        bench.execute("SELECT count(*) FROM pg_class")
        (pair,) = bench.pairs(bench.meddled(work_on), most_repeats=0)
        assert pair.a.disturbed == ()  # it costs the baseline nothing
        assert any("component_parameters grew" in why for why in pair.b.disturbed)
    bench.execute(f"VACUUM FULL {table}")
    (pair,) = bench.pairs(bench.meddled(), most_repeats=0)
    assert pair.disturbed == ()


def test_a_worker_that_is_gone_when_it_is_needed_is_one_error() -> None:
    with spawn_worker() as worker:
        os.kill(worker.submit(os.getpid).result(), signal.SIGKILL)
        for _ in range(2):  # as it dies, and ever after
            with pytest.raises(PlcsimError, match="a worker process died"), workers_alive():
                worker.submit(os.getpid).result()


def test_a_schema_is_dropped_though_its_monitor_was_cut_off_and_a_worker_killed(bench: Bench) -> None:
    settings = WorkerSettings(bench.conninfo, "", "", (5,), running=True)
    arms: list[Arm] = []

    def end_badly(monitor: Connection[Any]) -> None:
        with two_arms(monitor, ("baseline", "synchronizing+pool=2"), settings) as (a, b):
            arms.extend((a, b))
            os.kill(b.info.pid, signal.SIGKILL)
            bench.other.execute("SELECT pg_terminate_backend(%s, 5000)", (monitor.info.backend_pid,))
            a.run(REQUEST)
            b.run(REQUEST)

    with connect(bench.conninfo) as monitor, pytest.raises(PlcsimError, match="a worker process died"):
        end_badly(monitor)
    left = "SELECT 1 FROM pg_namespace WHERE nspname = ANY(%s)"
    assert bench.other.execute(left, ([arm.schema for arm in arms],)).fetchall() == []
    assert [psutil.pid_exists(arm.info.pid) for arm in arms] == [False, False]


def test_workers_leave_ctrl_c_to_us() -> None:
    with spawn_worker(signal.SIGTERM) as worker:
        pid = worker.submit(os.getpid).result()
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        assert worker.submit(os.getpid).result() == pid


def counters(**changed: int) -> ServerCounters:
    names = [f.name for f in fields(ServerCounters)]
    return replace(ServerCounters(*[100_000] * len(names)), **changed)


@pytest.mark.parametrize(
    ("mine", "other", "hot", "expected"),
    [
        ({}, {}, None, 0),
        ({}, {}, 0.9, 0),
        ({}, {}, 0.899, 1),
        ({"checkpoints": 100_001}, {}, None, 1),
        ({"checkpoint_lsn": 100_001}, {}, None, 1),
        ({"vacuums": 100_001}, {}, None, 1),
        ({}, {"vacuums": 100_001}, None, 1),
        ({"current_bytes": 100_000 + 8 * 8192}, {}, 1.0, 0),
        ({"current_bytes": 100_001 + 8 * 8192}, {}, 1.0, 1),
        ({}, {"current_bytes": 900_000}, None, 0),  # the other arm's table is not this slot's
        ({"wal_bytes": 900_000, "history_inserts": 900_000, "deadlocks": 100_001}, {}, 1.0, 0),
        ({"checkpoints": 100_001, "vacuums": 100_001, "current_bytes": 900_000}, {}, 0.1, 4),
    ],
)
def test_what_counts_as_a_disturbance(
    mine: dict[str, int], other: dict[str, int], hot: float | None, expected: int
) -> None:
    before = [counters(), counters()]
    assert len(_disturbances(before, [counters(**mine), counters(**other)], 0, hot)) == expected
    assert len(_disturbances(before, [counters(**other), counters(**mine)], 1, hot)) == expected


def test_what_an_arms_own_settings_do_to_its_table_is_no_disturbance(bench: Bench) -> None:
    worse = [counters(), counters(current_bytes=900_000)], [counters(), counters()]
    assert len(_disturbances(worse[1], worse[0], 1, 0.1, expects_hot=True)) == 2
    assert _disturbances(worse[1], worse[0], 1, 0.1, expects_hot=False) == []
    settings = WorkerSettings(bench.conninfo, "", "", (5,), running=True)
    arms = ("synchronizing", "synchronizing+index=current_value")
    with two_arms(bench.monitor, arms, settings) as (plain, indexed):
        (pair,) = run_pairs((plain, indexed), REQUEST, ORDER[:1], bench.monitor, int, most_repeats=0)
        assert (plain.expects_hot, indexed.expects_hot) == (True, False)
    assert pair.a.hot_ratio is not None
    assert pair.b.hot_ratio is not None
    assert pair.b.hot_ratio < 0.7 < pair.a.hot_ratio
    assert pair.b.disturbed == ()


NONE = latencies_of([])


def loop(seconds: float, transactions: int, skipped: int = 0, failed: int = 0) -> Loop:
    return Loop(seconds, transactions, {"40P01": failed} if failed else {}, skipped, NONE, NONE, NONE)


@pytest.mark.parametrize(
    ("saturated", "paced", "expected"),
    [
        (loop(0.5, 700), loop(0.5, 250), []),
        (loop(0.5, 700), None, []),
        (None, loop(0.99, 250), []),  # late, but done: the responses tell
        (None, loop(1.25, 250), ["only 80% of the planned rate was carried: the machine slowed down"]),
        (None, loop(1.0, 249, skipped=1), ["the planned rate was not reached"]),
        (None, loop(0.5, 200, failed=50), []),  # failures are judged as such
        (loop(0.5, 0, failed=3), None, ["no transaction was stored"]),
        (loop(0.5, 0), loop(0.5, 0, failed=250), ["no transaction was stored"] * 2),
    ],
)
def test_a_slot_that_did_not_do_its_work_is_noticed(
    saturated: Loop | None, paced: Loop | None, expected: list[str]
) -> None:
    request = SlotRequest(84, paced_s=1.0, rate_per_s=5.0)
    assert _shortfall(SlotResult(84, saturated, paced, 0, 0.0, 0, None), request) == expected


def test_the_planned_rate_is_missed_for_real(bench: Bench) -> None:
    hurry = replace(REQUEST, saturated_s=0.0, paced_s=0.05, rate_per_s=1e6)
    (pair,) = run_pairs(bench.meddled(), hurry, ORDER[:1], bench.monitor, int, most_repeats=0)
    assert pair.a.disturbed == pair.b.disturbed == ("the planned rate was not reached",)
