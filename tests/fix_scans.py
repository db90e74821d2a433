"""Fixture `oven`: a small device whose scans a test writes down itself, without a PLC."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from logger.scan import Batch, Quality, Scan, ScanLayout, batch_of
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

RUNNING, NUMBER, HEAT, TARGET, LAMP = range(5)
"""Columns of the oven's parameters; their ids are 10 more."""

START_US = 1_700_000_000_000_000
BAKING = 7
"""Number of the process that runs if a scan is made with `process=BAKING`."""

MAP: dict[str, Any] = {
    "process": {"recipe": "bake", "running": "plc.running", "number": "plc.number"},
    "groups": [
        {
            "name": "values",
            "table": "input_register",
            "parameters": [
                {"id": 10, "component": "plc", "name": "running", "address": 0, "type": "uint16"},
                {"id": 11, "component": "plc", "name": "number", "address": 1, "type": "uint32"},
                {
                    "id": 12,
                    "component": "oven",
                    "name": "heat",
                    "address": 3,
                    "type": "float32",
                    "setpoint": "oven.target",
                    "limits": [0.0, 300.0],
                    "unit": "degC",
                },
            ],
        },
        {
            "name": "targets",
            "table": "holding_register",
            "parameters": [
                {"id": 13, "component": "oven", "name": "target", "address": 0, "type": "float32"},
            ],
        },
        {
            "name": "lamps",
            "table": "coil",
            "parameters": [{"id": 14, "component": "oven", "name": "lamp", "address": 7, "type": "bool"}],
        },
    ],
}


class Oven:
    """Makes scans with values that say where they belong: scan number · 100 + column."""

    def __init__(self, device_id: str = "oven-1") -> None:
        self.config: DeviceConfig = parse_device({"device": {"device_id": device_id}, **MAP})
        self.layout = ScanLayout(self.config)

    def scan(self, number: int, process: int | None = None, bad: dict[int, Quality] | None = None) -> Scan:
        """One scan; `bad` says the quality of the columns that were not read."""
        values = number * 100.0 + np.arange(self.layout.size)
        values[RUNNING], values[NUMBER] = process is not None, process or 0
        quality = np.full(self.layout.size, Quality.GOOD, dtype=np.int16)
        for column, why in (bad or {}).items():
            values[column], quality[column] = np.nan, why
        recorded_at = START_US + number * 1_000_000 + np.arange(self.layout.size, dtype=np.int64)
        return Scan(number, values, quality, recorded_at, process)

    def batch(self, *scans: Scan) -> Batch:
        return batch_of(scans, self.layout)

    def run_of(self, first: int, last: int, process: int | None = None) -> list[Scan]:
        """Scans with these numbers, all good."""
        return [self.scan(number, process) for number in range(first, last + 1)]


Row = tuple[int, int, float | None, float | None, int]
"""What a ledger's hash covers of a row: parameter_id, microseconds since 1970, value, set value, quality."""


def recomputed_hash(
    previous: bytes,
    stream_id: int,
    first_scan: int,
    last_scan: int,
    device_id: str,
    transaction_id: UUID,
    process_id: UUID | None,
    rows: Sequence[Row] = (),
    reason: str = "",
    texts: Sequence[tuple[int, str]] = (),
    times: tuple[int, int] = (0, 0),
) -> bytes:
    """A ledger row's hash, written down a second time, in plain Python, from what is stored."""
    name, nan = device_id.encode(), float("nan")
    data = (b"plcsim gap v2\0" if any(times) else b"plcsim ledger v1\0") + previous
    data += struct.pack(">iqqi", stream_id, first_scan, last_scan, len(name)) + name
    data += transaction_id.bytes + (process_id.bytes if process_id else bytes(16))
    data += struct.pack(">qq", *times) if any(times) else struct.pack(">q", len(rows))
    data += reason.encode()
    for column, code in enumerate("iqddh"):
        values = [nan if row[column] is None else row[column] for row in rows]
        data += struct.pack(f">{len(rows)}{code}", *values)
    for row, text in texts:
        data += struct.pack(">qi", row, len(text.encode())) + text.encode()
    return hashlib.sha256(data).digest()


@pytest.fixture
def oven() -> Oven:
    return Oven()
