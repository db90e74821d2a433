"""One dead device of a hundred: the other 99 do not notice.

Within one run spells with and without it alternate. The interval of the ratio of the others' response time
p99 (due to stored) must lie inside 10 % of 1. The control is a logger whose devices wait for each other's
replies: its interval must not.
python -m long.dead_device [--count PAIRS] [--devices N] [--spell SECONDS] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from long.harness import figure, finish, folder, judge, plant, schema_in, server, until
from scipy import stats
from spoiled import one_line_for_all

from logger.forwarding import Stored
from logger.service import Hooks, run_logger
from logger.settings import Settings
from plcsim.fleet_file import load_fleet

DEAD = "ald-001"
SETTLE_S = 3.0
"""Of each spell: not counted."""


def log(file: Path, conninfo: str, schema: str, place: Path, *spoils: Callable[[], None]) -> None:
    """A logger that writes down due time and response of each stored scan of the 99."""
    for spoil in spoils:
        spoil()
    devices = tuple(device for endpoint in load_fleet(file).endpoints for device in endpoint.devices)
    found: list[tuple[int, int]] = []

    def on_stored(stored: Stored) -> None:
        if stored.key.device_id != DEAD:
            found.extend((s.due_ns, stored.committed_ns - s.due_ns) for s in stored.scans if s.due_ns)

    settings = Settings(devices, conninfo, place / "spool", interval_s=1.0, schema=schema)
    run_logger(settings, Hooks(on_stored=on_stored))
    np.save(place / "responses.npy", np.array(found, dtype=np.int64))


def run(pairs: int, devices: int, spell_s: float, *spoils: Callable[[], None]) -> None:
    """Without `spoils` the interval must lie inside its bounds, with them it must not."""
    with server() as postgres, folder() as place, schema_in(postgres.conninfo) as schema:
        with plant(place, devices, 1000) as (file, fleet):
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=log, args=(file, postgres.conninfo, schema.name, place, *spoils))
            process.start()
            assert process.pid is not None
            try:
                until(lambda: schema.value("SELECT count(*) FROM logging_transactions") > devices, "scans")
                spells: list[tuple[bool, int, int]] = []
                landed = 0
                for n in range(2 * pairs):
                    is_dead = n % 4 in (1, 2)  # ABBA: a slow change of the machine's pace cancels out
                    if is_dead:
                        fleet.fault(DEAD, kind="no_reply")
                    time.sleep(SETTLE_S)
                    start = time.monotonic_ns()
                    time.sleep(spell_s)
                    spells.append((is_dead, start, time.monotonic_ns()))
                    if is_dead:
                        landed += sum(int(fault["landed"]) for fault in fleet.faults(DEAD))
                        fleet.clear_faults(DEAD)
                time.sleep(2)
                os.kill(process.pid, signal.SIGTERM)
                process.join(30)
            finally:
                process.kill()
                process.join()
        low, high = interval(np.load(place / "responses.npy"), spells)
        figure("requests that the dead device left unanswered", landed, "", "> 0", landed > 0)
        if spoils:
            figure("control: lower end where all wait for it", low, "", "> 1.1", low > 1.1)
            return
        figure("lower end of the ratio's 95 % interval", low, "", ">= 0.9", low >= 0.9)
        figure("upper end", high, "", "<= 1.1", high <= 1.1)
        judge(schema)


def interval(found: np.ndarray, spells: list[tuple[bool, int, int]]) -> tuple[float, float]:
    """The 95 % interval (Student's t over pairs) of the ratio of the p99 with the device dead and alive."""
    p99 = {True: [], False: []}  # type: dict[bool, list[float]]
    for is_dead, start, end in spells:
        inside = found[(found[:, 0] >= start) & (found[:, 0] < end), 1]
        p99[is_dead].append(float(np.percentile(inside, 99)) / 1e6)
    ratios = np.log(np.array(p99[True]) / np.array(p99[False]))
    half = float(stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(ratios)) if len(ratios) > 1 else math.inf
    low, high = math.exp(ratios.mean() - half), math.exp(ratios.mean() + half)
    figure("p99 of the others with it alive", float(np.mean(p99[False])), "ms")
    figure("p99 of the others with it dead", float(np.mean(p99[True])), "ms")
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="pairs of spells")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--spell", type=float, default=12.0)
    options = parser.parse_args()
    run(options.count, options.devices, options.spell)
    run(4, options.devices, options.spell / 2, one_line_for_all)
    finish()


if __name__ == "__main__":
    main()
