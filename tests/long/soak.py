"""A day at one scan a second, simulated in an hour: one 84-parameter machine, 24 scans a second for 3,600 s.

Promised and judged, of the last three quarters of the run (the first fills caches and buffers):
 memory   the 95 % Theil-Sen interval of the slope of the logger's private memory includes 0;
 drift    so does that of the scans' distance from t0 + n * interval, n being the number that is stored, once
          what the wall clock was slewed against the monotonic one meanwhile is taken off;
 scans    each that was due is stored or in a gap record. Missed ones are told, not judged: the machine may
          have been busy, which is no fault of the logger's.
The interval presupposes independent samples, and memory is not: a slope is of twelve parts of the run,
of each the median of memory, and the earliest scan. Controls: a leak of 3 kB/s, a clock that is 10 ppm slow.
python -m long.soak [--count MINUTES] [--devices N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import psutil
from fix_postgres import Schema
from long.harness import (
    figure,
    finish,
    folder,
    judge,
    logging,
    none,
    plant,
    run_words,
    schema_in,
    server,
    stored,
    until,
)
from scipy.stats import theilslopes

SPEED = 24
SAMPLE_S = 1.0
PARTS = 12
LEAK_BYTES_PER_S = 3000.0
"""Of the control: 125 bytes a scan."""
SLOW = 10e-6
"""Of the control's clock: 36 ms an hour."""

Array = np.ndarray


def run(minutes: float, devices: int) -> None:
    with server() as postgres, folder() as place, schema_in(postgres.conninfo) as schema:
        with plant(place, devices, 100) as (file, _):
            words = run_words(file, schema, place / "spool", "--interval", f"{1000 / SPEED:.9f}ms")
            with logging(words, place / "log") as logger:
                until(lambda: stored(schema), "the first scan")
                process = psutil.Process(logger.pid)
                samples: list[tuple[float, float]] = []
                clocks: list[tuple[float, float]] = []
                began, files = time.monotonic(), 0
                while (age := time.monotonic() - began) < minutes * 60 and logger.process.exitcode is None:
                    samples.append((age, float(process.memory_full_info().uss)))
                    clocks.append((time.time(), wall_minus_monotonic_s()))
                    files = process.num_fds()
                    time.sleep(SAMPLE_S)
                none("loggers that died", int(logger.process.exitcode is not None))
                none("seconds over the time to end", int(logger.terminate(30) is None))
        check_memory(np.array(samples))
        figure("open files at the end", files, "")
        check_scans(schema)
        for (device,) in schema.rows("SELECT device_id FROM logging_streams WHERE stream_id > 0"):
            check_drift(schema, device, np.array(clocks))
        judge(schema)


def wall_minus_monotonic_s() -> float:
    """How far the clocks are apart; of a few tries the one whose readings lie closest together."""
    tries = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1] / 1e9


def slope_of(at: Array, values: Array, of_part: Callable[[Array], float]) -> tuple[float, float, float]:
    """Theil-Sen slope a second over the parts of the last three quarters, and its 95 % interval."""
    later = at >= at[0] + (at[-1] - at[0]) / 4
    parts = np.array_split(np.nonzero(later)[0], PARTS)
    middles = [float(at[part].mean()) for part in parts]
    slope, _, low, high = theilslopes([of_part(values[part]) for part in parts], middles, 0.95)
    return float(slope), float(low), float(high)


def check_slope(
    what: str, at: Array, values: Array, of_part: Callable[[Array], float], control: float, unit: str
) -> None:
    """The interval includes 0, and does not with the control's slope added; values in units."""
    slope, low, high = (3600 * x for x in slope_of(at, values, of_part))
    figure(f"{what}: slope", slope, f"{unit}/h")
    figure(f"{what}: lower end of its 95 % interval", low, f"{unit}/h", "<= 0", low <= 0)
    figure(f"{what}: upper end", high, f"{unit}/h", ">= 0", high >= 0)
    seen = slope_of(at, values + control * at, of_part)[1] > 0
    figure(f"{what}: control with {3600 * control:.0f} {unit}/h more is seen", float(seen), "", "= 1", seen)


def check_memory(samples: Array) -> None:
    at, used = samples[:, 0], samples[:, 1] / 1e3
    figure("memory: median", float(np.median(used)) / 1e3, "MB")
    check_slope("memory", at, used, lambda part: float(np.median(part)), LEAK_BYTES_PER_S / 1e3, "kB")


def check_drift(schema: Schema, device: str, clocks: Array) -> None:
    """The earliest scans of each part keep their distance from the schedule.

    `clocks` has a row a sample: the wall clock, and its distance from the monotonic one, by which the
    schedule runs; a slewed wall clock is no drift of ours.
    """
    rows = schema.rows(
        "SELECT scan, extract(epoch FROM min(recorded_at))::float8"
        " FROM parameter_value_history WHERE device_id = %s GROUP BY scan ORDER BY scan",
        device,
    )
    found = np.array(rows, dtype=float)
    slewed_s = np.interp(found[:, 1], clocks[:, 0], clocks[:, 1] - clocks[0, 1])
    found[:, 1] -= found[0, 1] + slewed_s
    figure("drift: of the wall clock against the monotonic one", 1e3 * float(slewed_s[-1]), "ms")
    late_ms = 1e3 * (found[:, 1] - (found[:, 0] - found[0, 0]) / SPEED)
    figure("drift: widest distance from the schedule", float(np.ptp(late_ms)), "ms")
    check_slope("drift", found[:, 1], late_ms, lambda part: float(part.min()), 1e3 * SLOW, "ms")


def check_scans(schema: Schema) -> None:
    """What was due, from the first to the last that was read, is stored or in a gap record."""
    wrong = 0
    for device, seconds, scans in schema.rows(
        "SELECT device_id, extract(epoch FROM max(recorded_at) - min(recorded_at))::float8,"
        " count(DISTINCT scan) FROM parameter_value_history GROUP BY 1"
    ):
        missed = schema.value(
            "SELECT coalesce(sum(last_scan - first_scan + 1), 0) FROM scan_gaps WHERE device_id = %s", device
        )
        due = round(seconds * SPEED) + 1
        wrong += max(0, abs(due - scans - int(missed)) - 1)
        figure(f"{device}: scans due", due, "")
        figure(f"{device}: scans stored", scans, "")
        figure(f"{device}: missed, in gap records (told, not judged)", missed, "scans")
    none("scans that are neither stored nor in a gap record", wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=60, help="minutes")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    run(options.count, options.devices)
    finish()


if __name__ == "__main__":
    main()
