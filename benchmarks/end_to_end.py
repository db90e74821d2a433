"""Emulator, logger and PostgreSQL on this machine: one device polled as fast as it goes, verified.

The 84-parameter machine of configs/ald.yaml, its recipe running all the time, synchronizing
repository, fsync on. Counted is what the database holds afterwards over the wall time of the logger
process, its start and stop included.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from figures import figure, finish
from logger_plant import always_running

from bench.load.arms import bench_schema, bench_server
from bench.load.emulators import emulated
from bench.oracle.verify import verify
from bench.sweep.spools import own_spool
from bench.sweep.trial import log_device
from logger.database import connect
from logger.settings import Settings, at_address

SECONDS = 30.0


def main() -> None:
    config = always_running()
    with (
        bench_server(None) as conninfo,
        connect(conninfo) as monitor,
        bench_schema(monitor, conninfo, "end_to_end", [config]) as schema,
        emulated([config]) as [(host, port)],
        own_spool() as spool,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers,
    ):
        settings = Settings(
            (at_address(config, host, port),),
            conninfo,
            spool,
            "synchronizing",
            0.0,
            schema,
            duration_s=SECONDS,
        )
        start = time.perf_counter()
        run = workers.submit(log_device, settings).result()
        wall_s = time.perf_counter() - start
        with connect(conninfo, schema) as connection:
            history, points = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
                for table in ("parameter_value_history", "process_data_points")
            )
            verification = verify(connection)
    figure(
        "history rows, count(*) over wall time",
        history / wall_s,
        "parameters/s",
        ">= 60000",
        history / wall_s >= 60_000,
    )
    figure("process rows beside them", points / wall_s, "rows/s")
    figure("scans a second", run.scans / wall_s, "scans/s")
    figure("scans a transaction", run.scans / run.transactions, "scans")
    figure("violations of I1 to I6", verification.violations, "", "= 0", verification.violations == 0)
    finish()


if __name__ == "__main__":
    main()
