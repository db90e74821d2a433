"""What a process does at each contact with the database, before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fix_plant import ALD
from fix_postgres import Schema

from logger.database import register_device
from logger.errors import DatabaseRefused
from logger.forwarding.forwarder import Forwarder
from logger.settings import Settings, logged_streams
from logger.spool import Spool
from logger.storing import Storing
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device


def device(device_id: str, unit: str) -> DeviceConfig:
    """The machine under another id, with a map of its own."""
    data = ALD.to_json()
    data["device"]["device_id"] = device_id
    data["groups"][0]["parameters"][3]["unit"] = unit
    return parse_device(data)


@pytest.fixture
def storing(schema: Schema, tmp_path: Path) -> Any:
    devices = (device("oven-1", "K"), device("oven-2", "K"))
    settings = Settings(devices, schema.conninfo, tmp_path / "spool", schema=schema.name)
    spool = Spool(tmp_path / "spool")
    spool.open()
    yield Storing(settings, logged_streams(settings), spool, lambda stored: None)
    spool.close()


def test_a_device_that_is_refused_after_the_start_keeps_no_other_out(storing: Any, schema: Schema) -> None:
    register_device(schema.connect(), device("oven-1", "mbar"))
    assert isinstance(storing.forwarder, Forwarder)
    refused = storing._prepare(schema.connect())
    assert list(refused) == ["oven-1"]
    assert "another parameter map" in refused["oven-1"]
    assert schema.rows("SELECT device_id FROM devices ORDER BY 1") == [("oven-1",), ("oven-2",)]


def test_a_device_that_is_refused_at_the_start_ends_it(storing: Any, schema: Schema) -> None:
    register_device(schema.connect(), device("oven-2", "mbar"))
    with pytest.raises(DatabaseRefused, match=r"'oven-2'.*another parameter map"):
        storing.first_contact()
