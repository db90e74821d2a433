"""An outage of the database for 100 devices at one scan a second, simulated at 60 times that speed.

The scans of the outage go into the spool as fast as it accepts them, with the times that they would have;
then the database is there. Everything must be stored, at 10 times the live rate or faster.
python -m long.outage [--count MINUTES] [--devices N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from fix_postgres import Schema
from long.harness import figure, finish, folder, judge, none, schema_in, server, until
from psycopg import Connection

from bench.load.machine import machine
from logger.database import connect, register_devices
from logger.forwarding import Forwarder, ForwarderSettings, StreamSpec
from logger.repositories import SynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, StreamKey
from logger.spool import Quarantine, Spool, SpoolLimits
from plcsim.config import DeviceConfig
from plcsim.truth import Truth

STORED = (
    "SELECT coalesce(sum(last_scan - first_scan + 1), 0) FROM logging_transactions WHERE history_rows > 0"
)
PREPARED = 600
"""PLC scans of a device whose values are computed beforehand, and come in turn."""


def fill(spool: Spool, configs: list[DeviceConfig], seconds: int) -> float:
    """Put the scans of so many seconds, one a second of each device; returns how long it took."""
    layout = ScanLayout(configs[0])
    columns = [p.is_logged for p in configs[0].register_map.parameters]
    some = np.arange(1, min(PREPARED, seconds) + 1, dtype=np.int64)
    truths = [Truth(config).values_at(some)[:, columns] for config in configs]
    keys = [StreamKey(config.device.device_id) for config in configs]
    good = np.full(layout.size, Quality.GOOD, dtype=np.int16)
    first_us = time.time_ns() // 1000 - seconds * 1_000_000
    process = layout.process_number(truths[0][0], None)
    began = time.monotonic()
    for n in range(seconds):
        at = np.full(layout.size, first_us + n * 1_000_000, dtype=np.int64)
        for key, truth in zip(keys, truths, strict=True):
            spool.put(key, Scan(n + 1, truth[n % len(truth)], good, at, process))
        if n % 20 == 19:
            spool.flush(60)
    spool.flush(60)
    return time.monotonic() - began


def run(minutes: int, devices: int, writers: int) -> None:
    configs = [machine(84, f"out-{n}") for n in range(1, devices + 1)]
    seconds = minutes * 60
    with server() as postgres, folder() as place:
        with schema_in(postgres.conninfo) as schema:
            took, left = outage(schema, configs, seconds, place / "kept", writers, is_emptied=False)
            scans = seconds * devices
            figure("simulated", seconds / took[0], "x live", ">= 60", seconds / took[0] >= 60)
            none("left in the spool", left, "scans")
            stored = schema.value(STORED)
            figure("scans of the outage that are stored", stored, "scans", f"= {scans}", stored == scans)
            rate = scans / took[1]
            figure("drain", rate * 84, "parameters/s")
            figure("drain against the live rate", rate / devices, "x live", ">= 10", rate >= 10 * devices)
            judge(schema)
        with schema_in(postgres.conninfo, "control") as schema:
            outage(schema, configs[:3], 20, place / "emptied", 1, is_emptied=True)
            lost = 60 - schema.value("SELECT count(DISTINCT (device_id, scan)) FROM parameter_value_history")
            figure("control: lost where the spool is emptied", lost, "scans", "> 0", lost > 0)


def outage(
    schema: Schema, configs: list[DeviceConfig], seconds: int, place: Path, writers: int, is_emptied: bool
) -> tuple[tuple[float, float], int]:
    """Seconds that spooling and storing took, and what is left in the spool."""
    spool = Spool(place, SpoolLimits())
    spool.open()
    filled_s = fill(spool, configs, seconds)
    spool.close()
    if is_emptied:
        shutil.rmtree(place)
    spool = Spool(place, SpoolLimits())
    spool.open()
    specs = [StreamSpec(StreamKey(c.device.device_id), ScanLayout(c), "bench") for c in configs]

    def prepare(connection: Connection[Any]) -> None:
        register_devices(connection, configs)

    forwarder = Forwarder(
        spool,
        specs,
        lambda: connect(schema.conninfo, schema.name),
        prepare,
        ForwarderSettings(SynchronizingRepository, writers=writers),
        Quarantine(place / "quarantine"),
    )
    began = time.monotonic()
    forwarder.start()
    until(lambda: not spool.figures().depth or forwarder.failed, "everything to be stored", 3600)
    drained_s = time.monotonic() - began
    left = forwarder.close(10)
    spool.close()
    return (filled_s, drained_s), left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="minutes of outage")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--writers", type=int, default=2)
    options = parser.parse_args()
    run(options.count, options.devices, options.writers)
    finish()


if __name__ == "__main__":
    main()
