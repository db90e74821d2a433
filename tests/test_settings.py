"""What a logger does where nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_scans import MAP

from logger.settings import Settings
from plcsim.device_file import parse_device


@pytest.mark.parametrize(
    ("devices", "writers", "connections"), [(1, None, 1), (2, None, 2), (9, None, 2), (1, 3, 3), (9, 1, 1)]
)
def test_two_writers_where_devices_are_many(devices: int, writers: int | None, connections: int) -> None:
    configs = [parse_device({"device": {"device_id": f"oven-{n}"}, **MAP}) for n in range(devices)]
    assert Settings(tuple(configs), "", Path(), writers=writers).connections == connections
