"""Fleets of the ALD machine as real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_emulator import ALD_FILE, RawClient

from plcsim.testing import FleetDevice, RunningFleet

READ_SCAN = bytes.fromhex("04 0000 0002")
"""The PLC scan counter, the first two input registers of configs/ald.yaml."""
READ_VALUES = bytes.fromhex("04 000c 0010")
PLCSIM = [sys.executable, "-m", "plcsim"]

StartFleet = Callable[..., RunningFleet]


def fleet_file(folder: Path, *, count: int = 6, port: int = 0, processes: int = 2, more: str = "") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(
        f"fleet: {{name: plant, processes: {processes}}}\n"
        "devices:\n"
        f"  - {{template: {ALD_FILE}, device_id: 'ald-{{n:03}}', count: {count}, port: {port}, seed: 1"
        f"{more}}}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[StartFleet]:
    """Starts fleets of configs/ald.yaml, as `fleet_file` has them; they end with the test."""
    with ExitStack() as stack:
        yield lambda **keys: stack.enter_context(RunningFleet(fleet_file(tmp_path, **keys)))


def workers_of(fleet: RunningFleet) -> list[dict[str, Any]]:
    return list(fleet.status().workers)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that is dead and not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def scan_of(device: FleetDevice) -> int:
    with RawClient(device.port) as client:
        reply = client.ask(READ_SCAN, unit=device.unit_id)
    assert reply[:2] == bytes.fromhex("04 04")
    return int.from_bytes(reply[2:])
