"""What a crowd did -> figures, outages, stop rules, causes: each against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.load.failures import Failure
from bench.stress.criteria import Criteria, observed
from bench.stress.outage import outage_of
from bench.stress.pressure import Pressure
from bench.stress.window import Window, percentile_ms, pool_waits, window_of
from bench.stress.writer import ATTEMPT, OUTCOMES, Schedule

MS = 1_000_000
START = 5_000 * MS
AT_EASE = Pressure(machine_busy=0.3, cores=2, generator_cores=0.1, generator_busiest=0.1)
CRITERIA = Criteria(p99_ms=100)

Row = tuple[float, float, float, float, Failure]
"""Due, begun, connection waited, done: milliseconds since the start; and the outcome."""


def attempts(*rows: Row) -> NDArray[np.void]:
    return np.array(
        [
            (0, START + due * MS, START + begun * MS, waited * MS, START + done * MS, OUTCOMES.index(outcome))
            for due, begun, waited, done, outcome in rows
        ],
        dtype=ATTEMPT,
    )


def paced(rate_per_s: float, seconds: float, service_ms: float) -> NDArray[np.void]:
    """One writer that needs so long for each, on a schedule: the next begins when it is due and free."""
    rows: list[Row] = []
    free = 0.0
    for index in range(round(rate_per_s * seconds)):
        due = 1000 * index / rate_per_s
        begun = max(due, free)
        free = begun + service_ms
        rows.append((due, begun, 0, free, Failure.OK))
    return attempts(*rows)


def window(rows: NDArray[np.void], seconds: float = 1.0, rate_per_s: float = 100.0) -> Window:
    return window_of(rows, Schedule(START, seconds, rate_per_s))


def test_response_counts_from_due_and_service_without_the_wait_for_a_connection() -> None:
    found = window(
        attempts(
            (0, 1, 2, 6, Failure.OK),
            (10, 30, 0, 34, Failure.OK),
            (20, 31, 500, 600, Failure.POOL_TIMEOUT),
            (990, 0, 0, 0, Failure.SKIPPED),
        )
    )
    assert (found.stored, found.tried, found.seconds) == (2, 4, 1.0)
    assert found.failures == {"pool timeout": 1, "skipped": 1}
    assert found.response.sum_us == pytest.approx(6_000 + 24_000)
    assert found.service.sum_us == pytest.approx(3_000 + 4_000)
    assert found.wait.sum_us == pytest.approx(1_000 + 20_000)
    assert found.pool_wait.sum_us == pytest.approx(2_000)
    assert (found.failed.count, found.failed.sum_us) == (1, pytest.approx(580_000))
    assert found.per_s == 2.0


def test_what_was_begun_in_time_and_ended_late_makes_the_window_longer() -> None:
    assert window(attempts((990, 990, 0, 1500, Failure.OK))).seconds == 1.5


def test_the_most_at_once_is_counted_with_the_connection_in_hand() -> None:
    found = window(
        attempts(
            (0, 0, 0, 10, Failure.OK),
            (0, 5, 0, 15, Failure.OK),
            (0, 0, 9, 20, Failure.OK),
            (0, 15, 0, 20, Failure.OK),
            (0, 0, 100, 100, Failure.POOL_TIMEOUT),
        )
    )
    assert found.simultaneous == 3
    assert found.mean_simultaneous == pytest.approx((10 + 10 + 11 + 5) / 1000)


@pytest.mark.parametrize(
    ("rate_per_s", "service_ms", "slope"),
    [(400, 2.0, 0.0), (500, 2.0, 0.0), (550, 2.0, 0.1), (1000, 2.0, 1.0)],
)
def test_backlog_grows_by_what_the_load_is_too_much(
    rate_per_s: float, service_ms: float, slope: float
) -> None:
    """Of an overload of 10 %, each second's work begins 0.1 s later."""
    found = window(paced(rate_per_s, 1.0, service_ms), 1.0, rate_per_s)
    assert found.backlog_s_per_s == pytest.approx(slope, abs=0.01)


def test_one_stall_is_no_backlog() -> None:
    rows = paced(400, 3.0, 2.0)
    rows["begun_ns"][1150:] += 60 * MS  # 150 ms before the end something stalls for 60 ms
    assert window(rows, 3.0, 400).backlog_s_per_s < 0.01


def test_a_window_in_which_nothing_was_done_has_no_figures_to_show() -> None:
    found = window(attempts())
    assert (found.stored, found.tried, found.simultaneous, found.per_s) == (0, 0, 0, 0.0)
    assert math.isnan(found.backlog_s_per_s)
    assert math.isnan(percentile_ms(found.response, 50))


def test_waits_for_a_connection_are_told_by_parts_of_the_window() -> None:
    rows = attempts(*[(t, t, 1 if t < 500 else 40, t + 50, Failure.OK) for t in range(0, 1000, 5)])
    parts = pool_waits(rows, Schedule(START, 1.0), 4)
    assert [round(part.mean_us) for part in parts] == [1_000, 1_000, 40_000, 40_000]


def rows_with(ok: int, late: int = 0, **failures: int) -> NDArray[np.void]:
    found: list[Row] = [(n, n, 0, n + (200 if n < late else 2), Failure.OK) for n in range(ok)]
    for name, count in failures.items():
        found += [(n, n, 0, n + 1, Failure[name]) for n in range(count)]
    return attempts(*found)


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (rows_with(1000), ""),
        (rows_with(1000, late=12), ""),  # 1.2 % late: by chance, 0.7 to 2.1 %
        (rows_with(1000, late=30), "p99 of the response above 100 ms"),
        (rows_with(960, DEADLOCK=40), ""),
        (rows_with(900, DEADLOCK=100), "less than 95% was stored"),
        (rows_with(1000, TOO_MANY_CONNECTIONS=1), "connections were refused"),
        (rows_with(900), "less than 95% of the rate was reached"),
    ],
)
def test_each_rule_fires_on_what_it_is_for_and_on_nothing_else(rows: NDArray[np.void], rule: str) -> None:
    found = observed(window(rows, 1.0, 1000.0), AT_EASE, CRITERIA)
    assert (found.ok, found.rule) == (not rule, rule)


def test_a_backlog_that_nobody_feels_yet_ends_the_level_too() -> None:
    found = observed(window(paced(520, 1.0, 2.0), 1.0, 520), AT_EASE, CRITERIA)
    assert (found.ok, found.rule) == (False, "the backlog grew")
    assert observed(window(paced(490, 1.0, 2.0), 1.0, 490), AT_EASE, CRITERIA).ok


def test_a_closed_loop_breaks_where_throughput_falls() -> None:
    found = window(rows_with(1000), rate_per_s=0.0)
    assert observed(found, AT_EASE, CRITERIA, best_per_s=1.05 * found.per_s).ok
    worse = observed(found, AT_EASE, CRITERIA, best_per_s=1.2 * found.per_s)
    assert worse.rule == "throughput fell below 90% of the best"


@pytest.mark.parametrize(
    ("pressure", "cause", "generators"),
    [
        (Pressure({"CPU": 9}, 0.6, 2, 0.95, 0.95), "the load generator", True),
        (Pressure({"CPU": 9}, 0.97, 2, 1.2, 0.6), "the load generator", True),
        (Pressure({"CPU": 9}, 0.97, 2, 0.4, 0.2), "the processors", False),
        (Pressure({"IO/WalSync": 5, "LWLock/WALWrite": 9, "CPU": 2}, 0.4, 2, 0.1, 0.1), "the disk", False),
        (Pressure({"Lock/transactionid": 8, "Lock/tuple": 5}, 0.4, 2, 0.1, 0.1), "row locks", False),
        (Pressure({"CPU": 30, "IO/WalSync": 2}, 0.6, 2, 0.1, 0.1), "processor time of the backends", False),
        (Pressure({"CPU": 5, "IO/WalSync": 5, "Lock/tuple": 5}, 0.4), "none at its limit by itself", False),
        (Pressure({}, 0.1, 2, 0.1, 0.1), "none at its limit by itself", False),
    ],
)  # fmt: skip
def test_the_resource_at_its_limit_is_named_and_a_limit_of_the_generator_is_called_that(
    pressure: Pressure, cause: str, generators: bool
) -> None:
    broken = observed(window(rows_with(500), 1.0, 1000.0), pressure, CRITERIA)
    assert (broken.cause, broken.is_generators) == (cause, generators)


def test_connections_that_the_server_refuses_are_never_the_generators_limit() -> None:
    busy = Pressure({}, 0.99, 2, 1.9, 0.99)
    refused = observed(window(rows_with(10, TOO_MANY_CONNECTIONS=3)), busy, CRITERIA)
    assert (refused.cause, refused.is_generators) == ("max_connections of the server", False)


def outage_rows(last_late_ms: float) -> NDArray[np.void]:
    """Due every 10 ms for 3 s; a fault from 1,000 to 2,000 ms."""
    rows: list[Row] = []
    for due in range(0, 3000, 10):
        if 1000 <= due < 2000:
            rows.append((due, due, 0, due + 5, Failure.CONNECTION_LOST))
        elif 2000 <= due < last_late_ms:
            rows.append((due, due, 0, due + 150, Failure.OK))
        else:
            rows.append((due, due, 0, due + 5, Failure.OK))
    return attempts(*rows)


def test_an_outage_is_told_before_during_and_after() -> None:
    found = outage_of(outage_rows(2300), Schedule(START, 3.0, 100), START + 1000 * MS, START + 2000 * MS)
    assert (found.due, found.stored) == ((100, 100, 100), (100, 0, 100))
    assert found.failures == {"connection lost": 100}
    assert found.first_success_s == pytest.approx(0.15)
    assert found.recovered_s == pytest.approx(0.29 + 0.15)


def test_a_recovery_that_nobody_saw_is_not_given_a_figure() -> None:
    found = outage_of(outage_rows(3000), Schedule(START, 3.0, 100), START + 1000 * MS, START + 2000 * MS)
    assert found.recovered_s is None
