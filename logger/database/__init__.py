"""The database: connecting, our tables and their versions, partitions, the embedded PostgreSQL."""

from logger.database.connection import (
    DEFAULT_SCHEMA,
    checked_conninfo,
    configure_session,
    connect,
    database,
    first_line,
    line_of,
    mapped_errors,
    with_defaults,
)
from logger.database.devices import register_device, register_devices, stored_devices
from logger.database.events import record_event
from logger.database.maintenance import MaintenanceReport, maintain
from logger.database.partitions import create_partitions, create_partitions_for
from logger.database.retention import Retention, hold, release_hold
from logger.database.schema import SCHEMA_VERSION, prepare_schema, require_schema
from logger.database.target import target_of

__all__ = [
    "DEFAULT_SCHEMA",
    "SCHEMA_VERSION",
    "MaintenanceReport",
    "Retention",
    "checked_conninfo",
    "configure_session",
    "connect",
    "create_partitions",
    "create_partitions_for",
    "database",
    "first_line",
    "hold",
    "line_of",
    "maintain",
    "mapped_errors",
    "prepare_schema",
    "record_event",
    "register_device",
    "register_devices",
    "release_hold",
    "require_schema",
    "stored_devices",
    "target_of",
    "with_defaults",
]
