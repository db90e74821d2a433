"""A day at one scan a second, simulated in an hour at 24 times the rate: memory stays flat, nothing drifts.

Flat: the 95 % interval of the Theil-Sen slope of the logger's memory includes 0, or is below 1 % an hour.
The control adds a leak to the same figures and must see it.
python -m long.soak [--count MINUTES] [--devices N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import psutil
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
SAMPLE_S = 2.0
LEAK_BYTES_PER_S = 3000.0
"""Of the control: 260 MB a day."""


def run(minutes: float, devices: int) -> None:
    with server() as postgres, folder() as place, schema_in(postgres.conninfo) as schema:
        with plant(place, devices, 100) as (file, _):
            words = run_words(file, schema, place / "spool", "--interval", f"{1000 / SPEED:.6f}ms")
            with logging(words, place / "log") as logger:
                until(lambda: stored(schema), "the first scan")
                process = psutil.Process(logger.pid)
                samples: list[tuple[float, float]] = []
                began = time.monotonic()
                while (age := time.monotonic() - began) < minutes * 60:
                    samples.append((age, float(process.memory_full_info().uss)))
                    time.sleep(SAMPLE_S)
                files = process.num_fds()
                logger.terminate(30)
        later = np.array(samples[len(samples) // 6 :])  # the first tenth minutes fill buffers
        check_memory(later)
        figure("open files at the end", files, "")
        check_drift(schema.rows(
            "SELECT device_id, last_scan, (SELECT min(recorded_at) FROM parameter_value_history h WHERE "
            "h.device_id = s.device_id), (SELECT max(recorded_at) FROM parameter_value_history h "
            "WHERE h.device_id = s.device_id) FROM logging_streams s WHERE stream_id > 0"
        ))  # fmt: skip
        missed = schema.value("SELECT coalesce(sum(last_scan - first_scan + 1), 0) FROM scan_gaps")
        figure("scans", stored(schema), "")
        none("missed scans", missed)
        judge(schema)


def check_memory(samples: np.ndarray) -> None:
    seconds, used = samples[:, 0], samples[:, 1]
    slope, _, low, high = theilslopes(used, seconds, 0.95)
    figure("memory", float(np.median(used)) / 1e6, "MB")
    figure("its growth", slope * 3600 / 1e3, "kB/h")
    figure("lower end of its 95 % interval", low * 3600 / 1e3, "kB/h", "<= 0", low <= 0)
    figure("upper end", high * 3600 / 1e3, "kB/h", ">= 0", high >= 0)
    leaking = theilslopes(used + LEAK_BYTES_PER_S * seconds, seconds, 0.95)[2] > 0
    figure("control: a leak of 3 kB/s is seen", float(leaking), "", "= 1", bool(leaking))


def check_drift(rows: list[tuple[object, ...]]) -> None:
    """The numbers of the scans and the time that passed agree to within two intervals."""
    worst = 0.0
    for _, last, first_at, last_at in rows:
        due = (last_at - first_at).total_seconds() * SPEED  # type: ignore[operator]
        worst = max(worst, abs(due - (last - 1)))  # type: ignore[operator]
    figure("drift", worst, "intervals", "<= 2", worst <= 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=60, help="minutes")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    run(options.count, options.devices)
    finish()


if __name__ == "__main__":
    main()
