"""A thousand machines of 84 parameters at one scan a second through plclogger: missed scans and freshness.

By default a minute, so that it ends within 3; `--minutes 10` is the real thing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import figure, finish
from logger_plant import OUTSTANDING, log, plant, rows

from bench.load.arms import bench_schema, bench_server
from bench.oracle.verify import verify
from logger.database import connect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--outstanding", type=int, default=OUTSTANDING, help="requests at once to a machine")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repository", default="synchronizing")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    with TemporaryDirectory() as name, bench_server(None) as conninfo, connect(conninfo) as monitor:
        folder = Path(name)
        with (
            plant(folder, options.devices, outstanding=options.outstanding) as (file, configs),
            bench_schema(monitor, conninfo, "thousand", configs) as schema,
        ):
            figures, wall_s = log(
                file, conninfo, schema, folder / "spool", "--interval", "1s", "--for", f"{seconds:g}s",
                "--workers", str(options.workers), repository=options.repository,
            )  # fmt: skip
            report(figures, wall_s, conninfo, schema, options.devices, seconds)
    figure("requests at once to a machine", options.outstanding, "")
    finish()


def report(
    figures: dict[str, float], wall_s: float, conninfo: str, schema: str, devices: int, seconds: float
) -> None:
    """Print what the logger says and what the database holds."""
    start = time.perf_counter()
    with connect(conninfo, schema) as connection:
        stored = rows(connection, "parameter_value_history")
        points = rows(connection, "process_data_points")
        verification = verify(connection)
    figure("machines", devices, "")
    figure("scans due and read", figures["scans"], "scans", f">= {0.99 * devices * seconds:.0f}")
    missed = figures["missed"]
    figure("scans missed", missed, "scans", "= 0", missed == 0)
    figure("freshness (read to stored), p99", figures["freshness_p99_ms"], "ms", "< 2000",
           figures["freshness_p99_ms"] < 2000)  # fmt: skip
    figure("response (due to stored), p99", figures["response_p99_ms"], "ms")
    figure("history rows over wall time", stored / wall_s, "parameters/s")
    figure("process rows for each history row", points / max(stored, 1), "")
    figure("left in the spool", figures["spooled"], "scans", "= 0", figures["spooled"] == 0)
    figure("processor time of the logger", 100 * figures["cpu_s"] / figures["seconds"], "% of a core")
    figure("violations of I1 to I6", verification.violations, "", "= 0", verification.violations == 0)
    print(f"(verified in {time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
