"""The database: connecting, our tables and their versions, the embedded PostgreSQL."""

from logger.database.connection import (
    DEFAULT_SCHEMA,
    SCHEMA_VERSION,
    checked_conninfo,
    connect,
    database,
    first_line,
    mapped_errors,
    prepare_schema,
    register_device,
    require_schema,
    stored_devices,
)

__all__ = [
    "DEFAULT_SCHEMA",
    "SCHEMA_VERSION",
    "checked_conninfo",
    "connect",
    "database",
    "first_line",
    "mapped_errors",
    "prepare_schema",
    "register_device",
    "require_schema",
    "stored_devices",
]
