"""Is what we measure with honest? What recording and pacing cost, how late they are, whether a stall shows.

A null target, which stores nothing, leaves only the generator: its CPU is the cost of pacing and recording.
Then a real database is stalled for a second. About a minute; `--soak 600` drives the null target longer.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
from figures import figure, finish
from psycopg import sql

from bench.load.arms import bench_schema, bench_server
from bench.load.loops import STORED, Attempt, open_loop
from bench.load.work import Loop, SlotRequest, WorkerSettings
from bench.load.workload import prepare, run_slot
from bench.measuring.latency import Merged
from logger.database import connect

STALL_S = 1.0
STALLED_RATE, STALLED_S = 100.0, 20.0
MOST_OF_A_CORE = 0.10
MOST_WAIT_US = 1000.0


def nothing() -> Attempt:
    return STORED


def null_target(rate_per_s: float, seconds: float) -> tuple[Loop, float]:
    """Runs in a process of its own: what the loop did, and the share of a core that it took."""
    open_loop(nothing, 0.5, rate_per_s)
    begun, cpu = time.perf_counter(), time.process_time()
    loop = open_loop(nothing, seconds, rate_per_s)
    return loop, (time.process_time() - cpu) / (time.perf_counter() - begun)


def tenths(rate_per_s: float, seconds: float) -> list[float]:
    """CPU of ten parts of a long run, microseconds an operation: does the generator slow down?"""
    found = []
    for _ in range(10):
        loop, share = null_target(rate_per_s, seconds / 10)
        found.append(share * loop.seconds / loop.transactions * 1e6)
    return found


@contextmanager
def stalled(conninfo: str, schema: str, after_s: float) -> Iterator[None]:
    """Meanwhile nobody can write history for a second, once, some time after the beginning."""

    def stall() -> None:
        time.sleep(after_s)
        with connect(conninfo, schema) as connection, connection.transaction():
            table = sql.Identifier(schema, "logging_transactions")
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
            time.sleep(STALL_S)

    aside = threading.Thread(target=stall)
    aside.start()
    yield
    aside.join()


def stall_shown(workers: ProcessPoolExecutor) -> Loop:
    """A paced part of a slot during which the database stands still for a second."""
    with bench_server(None) as conninfo, connect(conninfo) as monitor:
        settings = WorkerSettings(conninfo, "", "baseline", (84,), True)
        with bench_schema(monitor, conninfo, "stall", settings.configs()) as schema:
            workers.submit(prepare, replace(settings, schema=schema)).result()
            workers.submit(run_slot, SlotRequest(84, ramp_s=1.0)).result()
            request = SlotRequest(84, ramp_s=0.1, paced_s=STALLED_S, rate_per_s=STALLED_RATE)
            with stalled(conninfo, schema, STALLED_S / 3):
                loop = workers.submit(run_slot, request).result().paced
    assert loop is not None
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=float, default=20.0, help="seconds of the long null target")
    options = parser.parse_args()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers:
        loop, share = workers.submit(null_target, 2_000.0, 5.0).result()
        name = "recording and pacing at 2,000 op/s, of one core"
        figure(name, 100 * share, "%", "< 10", share < MOST_OF_A_CORE)
        figure("  of 10,000 operations, done", loop.transactions, "", "= 10000", loop.transactions == 10_000)
        loop, share = workers.submit(null_target, 10_000.0, 5.0).result()
        wait = Merged([loop.wait])
        p99 = wait.percentile_us(99)
        figure("null target at 10,000 op/s: wait p50", wait.percentile_us(50), "us")
        figure("null target at 10,000 op/s: wait p99", p99, "us", "< 1000", p99 < MOST_WAIT_US)
        figure("  done of 50,000", loop.transactions, "", "= 50000", loop.transactions == 50_000)
        parts = workers.submit(tenths, 2_000.0, options.soak).result()
        growth = float(np.median(parts[5:]) / np.median(parts[:5]))
        figure(
            f"CPU of an operation over {options.soak:g} s, second half / first",
            growth,
            "",
            "< 1.5",
            growth < 1.5,
        )
        loop = stall_shown(workers)
    response, service = (Merged([each]).percentile_us(99) / 1e6 for each in (loop.response, loop.service))
    figure("a stall of 1 s at 100 tx/s: response p99", response, "s", ">= 0.5", response >= STALL_S / 2)
    figure("a stall of 1 s at 100 tx/s: service p99", service, "s", "< 0.2", service < STALL_S / 5)
    figure("  its longest service", loop.service.max_us / 1e6, "s", ">= 0.9", loop.service.max_us >= 0.9e6)
    finish()


if __name__ == "__main__":
    main()
