"""What a worker measures: intended starts under a stall, rates, failures, counts the server agrees with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from fix_postgres import Schema
from fix_proxy import Proxy
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from bench.load import workload
from bench.load.workload import Loop, SlotRequest, SlotResult, WorkerInfo, WorkerSettings
from bench.measuring.latency import Latencies, Merged
from bench.measuring.resources import server_counters
from bench.oracle.verify import verify
from logger.database import register_device
from logger.errors import DatabaseUnreachable

N = 5
"""Parameters of a scan: the fewest."""
STALL_S = 0.3
SLOW_US = 100_000
"""Long against any transaction, short against the stall."""

Prepare = Callable[..., WorkerInfo]


@pytest.fixture
def prepare(schema: Schema) -> Iterator[Prepare]:
    """Makes this process a worker on the test's schema."""

    def prepared(repository: str = "baseline", conninfo: str = "", running: bool = True) -> WorkerInfo:
        settings = WorkerSettings(conninfo or schema.conninfo, schema.name, repository, (N,), running)
        connection = schema.connect()
        for config in settings.configs():
            register_device(connection, config)
        return workload.prepare(settings)

    yield prepared
    workload.close()


def run(**request: float) -> SlotResult:
    return workload.run_slot(SlotRequest(N, **{"ramp_s": 0.0, **request}))


def paced(result: SlotResult) -> Loop:
    assert result.paced is not None
    return result.paced


def slow(latencies: Latencies) -> int:
    """How many took longer than SLOW_US."""
    merged = Merged([latencies])
    return int(np.sum(merged.counts[0][merged.values_us > SLOW_US]))


@contextmanager
def stalled(schema: Schema, backend: int) -> Iterator[Future[None]]:
    """Meanwhile hold the worker's transaction up once, for STALL_S."""
    connection = schema.connect()

    def stall() -> None:
        wait_for(lambda: stored(schema) > 3)
        with connection.transaction():
            connection.execute("LOCK TABLE logging_streams IN ACCESS EXCLUSIVE MODE")
            wait_for(
                lambda: schema.rows(
                    "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
                    " AND clock_timestamp() - query_start > make_interval(secs => %s)",
                    backend,
                    STALL_S,
                )
            )

    with ThreadPoolExecutor(1) as aside:
        stalling = aside.submit(stall)
        yield stalling
        stalling.result()


def stored(schema: Schema) -> int:
    """Transactions in the database."""
    return int(schema.value("SELECT count(*) FROM logging_transactions"))


def test_a_stall_is_in_the_response_of_every_scan_that_was_due_meanwhile(
    schema: Schema, prepare: Prepare
) -> None:
    with stalled(schema, prepare().backend_pid):
        loop = paced(run(paced_s=1.0, rate_per_s=200))
    assert (loop.transactions, loop.skipped, loop.failures) == (200, 0, {})
    assert loop.response.max_us >= STALL_S * 1e6
    assert loop.service.max_us >= STALL_S * 1e6
    assert loop.wait.max_us < loop.response.max_us
    # 200/s · (0.3 - 0.1) s were due so long before the stall's end; only one was in the database
    assert slow(loop.response) >= 40
    assert slow(loop.service) <= slow(loop.response) // 5
    assert slow(loop.wait) >= 39
    assert loop.response.count == loop.service.count == loop.wait.count == 200


def test_a_closed_loop_hides_the_same_stall_in_one_value(schema: Schema, prepare: Prepare) -> None:
    with stalled(schema, prepare().backend_pid):
        loop = run(saturated_s=1.0).saturated
    assert loop is not None
    assert loop.service.max_us >= STALL_S * 1e6
    assert slow(loop.service) <= 8
    assert loop.response.count == loop.wait.count == 0  # it has no intended starts


def test_response_is_wait_and_service(prepare: Prepare) -> None:
    prepare()
    loop = paced(run(paced_s=0.3, rate_per_s=100))
    assert loop.response.sum_us == pytest.approx(loop.wait.sum_us + loop.service.sum_us, rel=1e-9)


@pytest.mark.parametrize(("seconds", "rate", "planned"), [(0.3, 100, 30), (0.3, 7, 2), (0.2, 0.5, 1)])
def test_a_slot_stores_what_its_rate_plans_and_not_sooner(
    prepare: Prepare, seconds: float, rate: float, planned: int
) -> None:
    prepare()
    begun = time.perf_counter()
    loop = paced(run(paced_s=seconds, rate_per_s=rate))
    took = time.perf_counter() - begun
    assert loop.transactions + loop.skipped == planned
    assert not loop.skipped or loop.seconds >= 2 * seconds  # this machine was away for so long
    assert took >= (loop.transactions - 1) / rate
    assert loop.seconds >= seconds


def test_what_an_impossible_rate_leaves_undone_counts_as_skipped(prepare: Prepare) -> None:
    prepare()
    begun = time.perf_counter()
    loop = paced(run(paced_s=0.1, rate_per_s=1e6))
    assert loop.skipped > 0
    assert loop.transactions + loop.skipped == 100_000
    assert loop.seconds >= 0.2  # it tries for one window more
    assert loop.per_second <= loop.transactions / 0.2
    assert time.perf_counter() - begun < 60


def test_time_runs_out_in_a_saturated_slot_even_if_nothing_is_stored(
    schema: Schema, prepare: Prepare
) -> None:
    prepare()
    schema.rows("ALTER TABLE logging_transactions ADD CONSTRAINT never CHECK (false) NOT VALID")
    loop = run(saturated_s=0.2).saturated
    assert loop is not None
    assert loop.transactions == loop.service.count == 0
    assert set(loop.failures) == {"refused"}
    assert loop.reasons == {"23514": loop.failures["refused"]}
    assert loop.failed.count == loop.tried == loop.failures["refused"] > 1


@pytest.mark.parametrize("repository", ["baseline", "synchronizing"])
def test_a_worker_goes_on_after_its_backend_was_terminated(
    schema: Schema, prepare: Prepare, repository: str
) -> None:
    prepare(repository, make_conninfo(schema.conninfo, application_name=schema.name))

    def terminate_twice() -> None:
        for _ in range(2):
            before = stored(schema)
            wait_for(lambda than=before: stored(schema) > than + 3)
            ((ended,),) = schema.rows(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
                schema.name,
            )
            assert ended

    with ThreadPoolExecutor(1) as aside:
        terminating = aside.submit(terminate_twice)
        results = [run(saturated_s=0.2)]
        while not terminating.done():
            results.append(run(saturated_s=0.2))
        terminating.result()
    results.append(run(saturated_s=0.1))
    loops = [result.saturated for result in results if result.saturated]
    failures = sum((Counter(loop.failures) for loop in loops), Counter())
    assert failures.total() == 2
    assert set(failures) == {"connection lost"}
    assert loops[-1].transactions > 0
    assert sum(result.transactions for result in results) == stored(schema)
    assert verify(schema.connect()).violations == 0


def test_a_database_that_is_away_fails_attempts_and_not_the_worker(
    schema: Schema, prepare: Prepare, proxy: Proxy
) -> None:
    prepare("synchronizing", proxy.conninfo)

    def be_away() -> None:
        wait_for(lambda: stored(schema) > 3)
        proxy.refuses = True
        proxy.cut_all()
        wait_for(lambda: proxy.landed["refused"] >= 5)
        proxy.refuses = False

    with ThreadPoolExecutor(1) as aside:
        away = aside.submit(be_away)
        loop = paced(result := run(paced_s=1.0, rate_per_s=60))
        away.result()
    assert loop.reasons["DatabaseUnreachable"] >= 5
    assert set(loop.failures) == {"connection lost"}
    assert loop.transactions + sum(loop.failures.values()) == 60
    assert loop.transactions > 3
    assert result.transactions == stored(schema)
    assert verify(schema.connect()).violations == 0


def test_a_database_that_stays_away_ends_the_slot_with_one_error(prepare: Prepare, proxy: Proxy) -> None:
    prepare("baseline", proxy.conninfo)
    proxy.refuses = True
    proxy.cut_all()
    with pytest.raises(DatabaseUnreachable):
        run(saturated_s=0.1)


@pytest.mark.parametrize("fate", ["request", "reply"])
def test_a_lost_answer_is_a_failure_and_what_was_stored_is_counted(
    schema: Schema, prepare: Prepare, proxy: Proxy, fate: str
) -> None:
    prepare("baseline", proxy.conninfo)
    before = run(saturated_s=0.05).transactions
    proxy.fate = lambda request: fate if b"baseline" in request and not proxy.landed[fate] else None
    loop = paced(result := run(paced_s=0.5, rate_per_s=20))
    assert (loop.transactions, loop.failures) == (9, {"connection lost": 1})
    assert result.transactions == (10 if fate == "reply" else 9)
    assert before + result.transactions == stored(schema)


def refuse_once_in(schema: Schema, sqlstate: str, times: int) -> None:
    """The next transactions fail so often, each by this SQLSTATE."""
    schema.rows("CREATE SEQUENCE tries")
    schema.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}';"
        " END IF; RETURN NULL; END $$"
    )
    schema.rows(
        "CREATE TRIGGER refuse AFTER INSERT ON logging_transactions FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse()"
    )


@pytest.mark.parametrize(
    ("sqlstate", "retries", "failures", "retried"),
    [
        ("40P01", 3, {}, (1, 3)),
        ("40001", 3, {}, (1, 3)),
        ("40P01", 2, {"deadlock": 1}, (0, 2)),
        ("40001", 0, {"serialization": 3}, (0, 0)),
        ("23514", 3, {"refused": 3}, (0, 0)),  # another try would fail as well
    ],
)
def test_what_may_succeed_later_is_tried_again_within_its_response(
    schema: Schema,
    prepare: Prepare,
    sqlstate: str,
    retries: int,
    failures: dict[str, int],
    retried: tuple[int, int],
) -> None:
    prepare()
    backend = schema.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'plcsim' ORDER BY 1")
    refuse_once_in(schema, sqlstate, 3)
    loop = paced(result := run(paced_s=0.4, rate_per_s=25, retries=retries))
    assert loop.failures == failures
    assert (loop.retried, loop.retries) == retried
    assert loop.transactions == result.transactions == stored(schema) == 10 - sum(failures.values())
    assert loop.response.count == loop.transactions
    assert loop.failed.count == sum(failures.values())
    # a clear no costs no connection
    assert (
        schema.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'plcsim' ORDER BY 1")
        == backend
    )


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("repository", ["baseline", "synchronizing"])
def test_what_the_worker_counts_is_what_the_server_counts(
    schema: Schema, prepare: Prepare, repository: str, running: bool
) -> None:
    prepare(repository, running=running)
    result = run(ramp_s=0.05, saturated_s=0.1, paced_s=0.1, rate_per_s=50)
    assert result.saturated is not None
    assert result.transactions > result.saturated.transactions + paced(result).transactions  # the ramp
    assert stored(schema) == result.transactions
    rows = schema.value("SELECT count(*) FROM parameter_value_history")
    assert rows == result.transactions * N
    assert server_counters(schema.connect(), schema.name).history_inserts == rows
    assert schema.value("SELECT count(*) FROM process_data_points") == (rows if running else 0)
    verification = verify(schema.connect())
    assert (verification.violations, verification.rows) == (0, rows)


def test_memory_and_time_of_a_slot_are_reported(prepare: Prepare) -> None:
    info = prepare()
    result = run(saturated_s=0.1)
    assert info.server_is_local
    assert result.backend_bytes is not None
    assert 100_000 < result.backend_bytes < 500_000_000
    assert 0 < result.cpu_s < 30
