"""Enters devices and what is logged of them, and reads them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from logger.database.connection import mapped_errors
from logger.errors import DatabaseRefused
from plcsim.config import DeviceConfig
from plcsim.device_file import parse_device

_TOGETHER = 50
"""Devices of one transaction: so that none takes long, and no lock is held for long."""

_STANDING = """
SELECT device_id, configuration_sha256, (
    SELECT count(*) FROM component_parameters AS c WHERE c.device_id = d.device_id
) FROM devices AS d WHERE device_id = ANY(%s)"""

_DEVICE = """
INSERT INTO devices (device_id, name, configuration, configuration_sha256)
VALUES (%s, %s, %s, %s) ON CONFLICT (device_id) DO NOTHING"""

_PARAMETERS = """
INSERT INTO component_parameters
    (device_id, parameter_id, component, name, unit, low_limit, high_limit)
SELECT * FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[])
ON CONFLICT DO NOTHING"""


def register_devices(connection: Connection[Any], configs: Sequence[DeviceConfig]) -> None:
    """Enter devices and what is logged of them; quick where they are there already.

    Stored values are only as good as the map that decoded them, so one device_id keeps one map: raises
    DatabaseRefused if one is there with another. Those before it may be entered then.
    """
    in_order = sorted(configs, key=lambda config: config.device.device_id)  # two loggers: no deadlock
    with mapped_errors():
        standing = _standing(connection, in_order)
        missing = [config for config in in_order if not _is_complete(config, standing)]
        for first in range(0, len(missing), _TOGETHER):
            with connection.transaction():
                _enter(connection, missing[first : first + _TOGETHER])


def register_device(connection: Connection[Any], config: DeviceConfig) -> None:
    """Enter a device; as `register_devices`."""
    register_devices(connection, [config])


def _standing(connection: Connection[Any], configs: Sequence[DeviceConfig]) -> dict[str, tuple[str, int]]:
    """By device_id: the hash of its configuration, and how many parameters are entered."""
    names = [config.device.device_id for config in configs]
    rows = connection.execute(_STANDING, (names,)).fetchall()
    return {device_id: (sha256, parameters) for device_id, sha256, parameters in rows}


def _is_complete(config: DeviceConfig, standing: dict[str, tuple[str, int]]) -> bool:
    """Whether there is nothing to enter; an older plclogger may have logged fewer parameters."""
    device_id = config.device.device_id
    if device_id not in standing:
        return False
    sha256, parameters = standing[device_id]
    if sha256 != config.sha256:
        raise DatabaseRefused(
            f"device {device_id!r} is in this database with another parameter map; give the changed one "
            "a device_id of its own"
        )
    return parameters >= len(config.register_map.logged)


def _enter(connection: Connection[Any], configs: Sequence[DeviceConfig]) -> None:
    for config in configs:
        device = config.device
        connection.execute(_DEVICE, (device.device_id, device.name, Jsonb(config.to_json()), config.sha256))
    standing = _standing(connection, configs)
    for config in configs:
        _is_complete(config, standing)  # another logger may have been faster, with another map
    parameters = [
        (config.device.device_id, p.parameter_id, p.component, p.name, p.unit, *(p.limits or (None, None)))
        for config in configs
        for p in config.register_map.logged
    ]
    if parameters:
        connection.execute(_PARAMETERS, [list(column) for column in zip(*parameters, strict=True)])


def stored_devices(connection: Connection[Any]) -> list[DeviceConfig]:
    """Configurations of all devices that were logged into this schema."""
    rows = connection.execute("SELECT device_id, configuration FROM devices ORDER BY 1").fetchall()
    return [parse_device(data, f"stored configuration of {device}") for device, data in rows]
