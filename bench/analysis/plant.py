"""The answer in the plant's units: milliseconds a scan, WAL a day, machines a server carries."""

from __future__ import annotations

from typing import Any

from bench.analysis.comparison import Comparison

SECONDS_PER_DAY = 86_400


def plant_units(comparison: Comparison) -> dict[str, Any]:
    """For machines like the measured one at one scan a second, each scan a transaction of its own.

    `machines` is what one connection reaches at saturation: the machines whose scans it could take.
    """
    response = comparison.metric("median response")
    throughput = comparison.metric("throughput")
    wal_a, wal_b = comparison.wal_bytes
    return {
        "ms_per_scan": {"a": round(response.a, 4), "b": round(response.b, 4)},
        "wal_bytes_per_machine_day": {
            "a": round(wal_a * SECONDS_PER_DAY),
            "b": round(wal_b * SECONDS_PER_DAY),
        },
        "machines": {"a": int(throughput.a), "b": int(throughput.b)},
    }
