"""plclogger end to end, beside collectd: the same PLCs, the same PostgreSQL, interleaved in one run.

Sixteen machines of 84 parameters, a recipe running all the time, polled as fast as it goes through the
spool into the synchronizing repository, fsync on. Counted is what the tables hold afterwards over the
wall time of the logger's command, its start and stop included; freshness is from a scan's reply to its
proven commit. At the end everything is verified against the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from collectd import Collectd, is_installed, make_table
from figures import figure, finish
from logger_plant import OUTSTANDING, log, plant, rows
from psycopg import Connection

from bench.load.arms import bench_schema, bench_server, growing_wal
from bench.oracle.verify import verify
from logger.database import connect

_COLLECTD_INTERVAL_S = 0.005
"""Less than a pass over the values takes: it reads as fast as it can."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--outstanding", type=int, default=OUTSTANDING, help="requests at once to a machine")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--option", action="append", default=[], help="of plclogger run, such as --option=--writers=2"
    )
    options = parser.parse_args()
    if not is_installed():
        raise SystemExit(
            "collectd is missing: apt-get install --no-install-recommends collectd-core libmodbus5 libpq5"
        )
    with TemporaryDirectory() as name, bench_server(None) as conninfo, connect(conninfo) as monitor:
        folder = Path(name)
        with plant(folder, options.devices, outstanding=options.outstanding) as (file, configs):
            plcs = [(config, config.modbus.host, config.modbus.port) for config in configs]
            make_table(monitor, "theirs")
            collectd = Collectd(folder, conninfo, "theirs", plcs, _COLLECTD_INTERVAL_S)
            with (
                growing_wal(conninfo, 200) as grown,
                bench_schema(monitor, conninfo, "ours", configs) as schema,
            ):
                grown.result()
                monitor.execute("CHECKPOINT")
                compare(collectd, monitor, conninfo, schema, file, folder / "spool", options)
    figure("requests at once to a machine", options.outstanding, "")
    finish()


def compare(
    collectd: Collectd,
    monitor: Connection[Any],
    conninfo: str,
    schema: str,
    file: Path,
    spool: Path,
    options: argparse.Namespace,
) -> None:
    """Interleave both and print what they stored."""
    rates, freshness, theirs, stored = [], [], [], 0
    with connect(conninfo, schema) as connection:
        for _ in range(options.rounds):
            theirs.append(collectd.values_per_second(monitor, "theirs", options.seconds))
            figures, wall_s = log(
                file,
                conninfo,
                schema,
                spool,
                "--interval",
                "0",
                "--for",
                f"{options.seconds}s",
                *options.option,
            )
            now = rows(connection, "parameter_value_history")
            rates.append((now - stored) / wall_s)
            freshness.append(figures["freshness_p99_ms"])
            stored = now
        points = rows(connection, "process_data_points")
        verification = verify(connection)
    ours, other = float(np.median(rates)), float(np.median(theirs))
    figure("history rows, count(*) over wall time", ours, "parameters/s", ">= 150000", ours >= 150_000)
    figure("process rows for each history row", points / stored, "")
    figure("freshness (read to stored), p99", max(freshness), "ms", "< 1000", max(freshness) < 1000)
    figure("collectd, values in its table over wall time", other, "values/s")
    figure("ours / collectd", ours / other, "", ">= 10", ours >= 10 * other)
    figure("violations of I1 to I6", verification.violations, "", "= 0", verification.violations == 0)


if __name__ == "__main__":
    main()
