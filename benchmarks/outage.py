"""The database is away while a hundred machines are logged: how the backlog drains, what live scans feel.

A hundred machines of 84 parameters at one scan a second. The server stops, comes back, and the rows that
it holds are counted while the logger goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from figures import figure, finish
from logger_plant import command_of, plant

from bench.load.arms import BENCH_SETTINGS
from bench.oracle.verify import verify
from logger.database import connect
from logger.database.embedded import EmbeddedPostgres, data_folder

DEVICES = 100
PARAMETERS = 84
SCHEMA = "outage"
CALM_S = 8.0
_STEP_S = 0.1
_LEFT_SCANS = 2 * DEVICES
"""Fewer waiting than two seconds' worth: the backlog is gone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without a database")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="outage-", dir=_parent()))
    server = EmbeddedPostgres(folder, BENCH_SETTINGS)
    try:
        with tempfile.TemporaryDirectory() as name, plant(Path(name), DEVICES) as (file, _):
            measure(server, file, Path(name), options.outage)
    finally:
        server.remove()
    finish()


def _parent() -> Path:
    parent = data_folder()
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def measure(server: EmbeddedPostgres, file: Path, folder: Path, outage_s: float) -> None:
    """Calm, outage, recovery; then everything is verified."""
    with server:
        conninfo = server.conninfo
        logger = subprocess.Popen(
            [*command_of(file, SCHEMA, folder / "spool"), "--interval", "1s"],
            env={**os.environ, "PLCSIM_DATABASE": conninfo},
            stdout=subprocess.PIPE,
            text=True,
        )
        until_stored(conninfo, DEVICES)
        time.sleep(CALM_S)
        before = stored(conninfo)
    gone = time.monotonic()
    time.sleep(outage_s)
    with server:
        back = time.monotonic()
        first, backlog = until_stored(conninfo, before + 1), int((back - gone) * DEVICES)
        done, drained = until_caught_up(conninfo, before, gone)
        time.sleep(CALM_S)
        logger.send_signal(signal.SIGTERM)
        said, _ = logger.communicate(timeout=60)
        figures = json.loads(said.splitlines()[-1])
        with connect(conninfo, SCHEMA) as connection:
            verification = verify(connection)
    live = DEVICES * PARAMETERS
    rate = drained * PARAMETERS / (done - first)
    figure("backlog after the outage", backlog, "scans")
    figure("server back to first commit", first - back, "s")
    figure("first commit to caught up", done - first, "s")
    figure("stored meanwhile", rate, "parameters/s", f">= {10 * live}", rate >= 10 * live)
    figure("scans missed", figures["missed"], "scans", "= 0", figures["missed"] == 0)
    figure("lag of live scans (due to start), p99", figures["lag_p99_ms"], "ms")
    figure("left in the spool", figures["spooled"], "scans", "= 0", figures["spooled"] == 0)
    figure("violations of I1 to I6", verification.violations, "", "= 0", verification.violations == 0)


def stored(conninfo: str) -> int:
    """Scans in all streams; 0 while there are no tables."""
    with connect(conninfo, SCHEMA) as connection:
        there = connection.execute("SELECT to_regclass('logging_streams') IS NOT NULL").fetchone()
        if not (there and there[0]):
            return 0
        row = connection.execute("SELECT coalesce(sum(last_scan), 0) FROM logging_streams").fetchone()
    return int(row[0]) if row else 0


def until_stored(conninfo: str, scans: int) -> float:
    """When so many scans are stored, monotonic clock."""
    deadline = time.monotonic() + 60
    while stored(conninfo) < scans:
        if time.monotonic() > deadline:
            raise SystemExit(f"no {scans} scans within 60 s")
        time.sleep(_STEP_S)
    return time.monotonic()


def until_caught_up(conninfo: str, before: int, gone: float) -> tuple[float, int]:
    """When the scans that are due are stored but for the newest, and how many were stored until then."""
    deadline = time.monotonic() + 120
    while True:
        now, there = time.monotonic(), stored(conninfo) - before
        if there >= (now - gone) * DEVICES - _LEFT_SCANS:
            return now, there
        if now > deadline:
            raise SystemExit("the backlog did not drain within 120 s")
        time.sleep(_STEP_S)


if __name__ == "__main__":
    main()
