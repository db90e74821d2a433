"""A plant of running machines and plclogger on it: what the benchmarks of the logger share."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from psycopg import Connection

from plcsim.device_file import load_device
from plcsim.testing import FleetDevice, RunningFleet

ALD = Path(__file__).parent.parent / "configs" / "ald.yaml"


def always_running(folder: Path) -> Path:
    """The device file of the machine with a recipe that outlasts every benchmark."""
    data = copy.deepcopy(load_device(ALD).to_json())
    data["process"]["idle_s"] = 0.1
    data["process"]["phases"][0]["steps"][0]["seconds"] = 500_000.0
    path = folder / "running.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def plant_file(folder: Path, template: Path, count: int, port: int = 0, plc_scan_ms: int = 1000) -> Path:
    """A fleet file of so many machines."""
    path = folder / "plant.yaml"
    entry = {
        "template": str(template), "device_id": "ald-{n:04}", "count": count, "port": port, "seed": 1,
        "overrides": {"plc_scan_ms": plc_scan_ms},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"devices": [entry]}))
    return path


@contextmanager
def plant(
    folder: Path, count: int, plc_scan_ms: int = 1000
) -> Iterator[tuple[list[Path], list[FleetDevice]]]:
    """A fleet that serves them, and a device file for each that says where it listens."""
    template = always_running(folder)
    with RunningFleet(plant_file(folder, template, count, 0, plc_scan_ms)) as fleet:
        files = []
        for n, device in enumerate(fleet.devices, 1):
            data = load_device(template).to_json()
            data["device"] |= {"device_id": device.device_id, "seed": n, "plc_scan_ms": float(plc_scan_ms)}
            data["modbus"] = {"host": device.host, "port": device.port, "unit_id": device.unit_id}
            files.append(folder / f"{device.device_id}.json")
            files[-1].write_text(json.dumps(data))
        yield files, fleet.devices


def command_of(files: list[Path], schema: str, spool: Path) -> list[str]:
    """The plclogger command that logs these devices; the database's URL is in its environment."""
    return [
        sys.executable, "-m", "logger", "run", *map(str, files), "--json", "--schema", schema,
        "--spool", str(spool),
    ]  # fmt: skip


def log(
    files: list[Path],
    conninfo: str,
    schema: str,
    spool: Path,
    *options: str,
    repository: str = "synchronizing",
) -> tuple[dict[str, Any], float]:
    """Run plclogger to its end: its figures, and the wall time of the command."""
    command = [*command_of(files, schema, spool), "--repository", repository, *options]
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
