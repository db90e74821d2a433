"""A plant of running machines and plclogger on it: what the benchmarks of the logger share."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from psycopg import Connection

from plcsim.config import DeviceConfig
from plcsim.device_file import load_device, parse_device
from plcsim.fleet_file import load_devices
from plcsim.testing import RunningFleet

ALD = Path(__file__).parent.parent / "configs" / "ald.yaml"


OUTSTANDING = 4
"""Requests of a scan, all on their way at once: the emulator takes them, as many PLCs do."""


def always_running(outstanding: int = OUTSTANDING) -> DeviceConfig:
    """The machine with a recipe that outlasts every benchmark."""
    data = copy.deepcopy(load_device(ALD).to_json())
    data["modbus"]["max_outstanding"] = outstanding
    data["process"]["idle_s"] = 0.1
    data["process"]["phases"][0]["steps"][0]["seconds"] = 500_000.0
    return parse_device(data)


@contextmanager
def plant(
    folder: Path, count: int, plc_scan_ms: int = 1000, outstanding: int = OUTSTANDING
) -> Iterator[tuple[Path, tuple[DeviceConfig, ...]]]:
    """A fleet of so many machines: its file, for the logger too, and what it describes."""
    template, path = folder / "running.yaml", folder / "plant.yaml"
    template.write_text(yaml.safe_dump(always_running(outstanding).to_json(), sort_keys=False))
    entry = {
        "template": str(template), "device_id": "ald-{n:04}", "count": count,
        "port": _free_ports(count), "seed": 1, "overrides": {"plc_scan_ms": plc_scan_ms},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"devices": [entry]}))
    with RunningFleet(path):
        yield path, load_devices(path).configs


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody has, below those that the system gives clients."""
    for first in range(10_000, 32_000 - count, 100):
        try:
            for port in range(first, first + count):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise SystemExit(f"no {count} free ports in a row")


def command_of(file: Path, schema: str, spool: Path) -> list[str]:
    """The plclogger command that logs these devices; the database's URL is in its environment."""
    return [
        sys.executable, "-m", "logger", "run", str(file), "--json", "--schema", schema,
        "--spool", str(spool),
    ]  # fmt: skip


def log(
    file: Path,
    conninfo: str,
    schema: str,
    spool: Path,
    *options: str,
    repository: str = "synchronizing",
) -> tuple[dict[str, Any], float]:
    """Run plclogger to its end: its figures, and the wall time of the command."""
    command = [*command_of(file, schema, spool), "--repository", repository, *options]
    environment = {**os.environ, "PLCSIM_DATABASE": conninfo}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wall_s = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"plclogger ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1]), wall_s


def rows(connection: Connection[Any], table: str) -> int:
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
    assert found is not None
    return int(found[0])
