"""Start jitter and drift of scans at 1 s polling; `--minutes 10` for the long look.

Jitter is the start of a scan after its due time on the monotonic clock; drift is how much later the
last third starts than the first, by the median.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from figures import figure, finish

from bench.load.arms import bench_schema, bench_server
from bench.load.emulators import emulated
from bench.load.machine import machine
from bench.sweep.spools import own_spool
from logger.database import connect
from logger.reading.schedule import Due
from logger.scan import Scan
from logger.service import Hooks, run_logger
from logger.settings import Settings, at_address

Starts = tuple[list[int], list[int]]


def log(settings: Settings) -> Starts:
    """Log one device; returns due and start times in ns of each scan."""
    due_ns: list[int] = []
    started_ns: list[int] = []

    def on_scan(due: Due, scan: Scan) -> None:
        due_ns.append(due.due_ns)
        started_ns.append(scan.started_ns)

    run_logger(settings, Hooks(on_scan=on_scan))
    return due_ns, started_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    minutes = parser.parse_args().minutes
    config = machine(84)
    with (
        bench_server(None) as conninfo,
        connect(conninfo) as monitor,
        bench_schema(monitor, conninfo, "jitter", [config]) as schema,
        emulated([config]) as [(host, port)],
        own_spool() as spool,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers,
    ):
        settings = Settings(
            (at_address(config, host, port),),
            conninfo,
            spool,
            "synchronizing",
            1.0,
            schema,
            duration_s=60 * minutes,
        )
        due, started = (np.array(times) for times in workers.submit(log, settings).result())
    lag_ms = (started - due) / 1e6
    third = len(lag_ms) // 3
    drift_ms = float(np.median(lag_ms[-third:]) - np.median(lag_ms[:third]))
    off_plan_ms = float(np.abs((due - due[0]) / 1e6 - 1000.0 * np.arange(len(due))).max())
    p99 = float(np.percentile(lag_ms, 99))
    figure("scans at 1 s", len(lag_ms), "scans")
    figure("start jitter p50", float(np.median(lag_ms)), "ms")
    figure("start jitter p99", p99, "ms", "< 5", p99 < 5)
    figure("start jitter max", float(lag_ms.max()), "ms")
    figure("drift, last third against first", drift_ms, "ms", "< 1", abs(drift_ms) < 1)
    figure("due times off the plan t0 + n s", off_plan_ms, "ms", "= 0", off_plan_ms < 1e-6)
    finish()


if __name__ == "__main__":
    main()
