"""Writes down what happened to the logger: clock steps, drops, take-overs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from logger.database.connection import mapped_errors

_EVENT = """
INSERT INTO logger_events (event_id, happened_at, host, kind, message)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING"""


def record_event(
    connection: Connection[Any], happened_at: datetime, host: str, kind: str, message: str, event_id: UUID
) -> None:
    """Record an event once, however often it is sent. Raises DatabaseError."""
    with mapped_errors():
        connection.execute(_EVENT, (event_id, happened_at, host, kind, message.replace("\0", "?")))
