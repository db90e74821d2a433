"""Fixtures `postgres` and `schema`: a real PostgreSQL server, and our tables in a schema of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from logger.database import connect, create_partitions, prepare_schema, register_device
from logger.database.embedded import EmbeddedPostgres
from logger.repositories import Repository, Stream
from logger.scan import StreamKey
from plcsim.config import DeviceConfig

TABLES = (
    "component_parameters",
    "logging_streams",
    "logging_transactions",
    "parameter_value_history",
    "process_data_points",
    "process_executions",
    "scan_gaps",
)
SCANS_AT_US = 1_700_000_000_000_000
"""When the scans of fix_scans are recorded: that day has its partitions too."""

WRITER = UUID(int=0xA)
"""Who writes the streams that tests open: they may open one twice."""

_numbers = count(1)


class Schema:
    """A schema with our tables, and connections to it that are closed with it."""

    def __init__(self, conninfo: str, name: str, control: psycopg.Connection[Any] | None = None) -> None:
        self.conninfo = conninfo
        self.name = name
        self._open: list[psycopg.Connection[Any]] = []
        self._control = control or connect(conninfo, name)
        self._control_is_ours = control is None
        self._control.execute("SELECT set_config('search_path', %s, false)", (name,))
        prepare_schema(self._control, name)
        create_partitions(self._control, SCANS_AT_US, SCANS_AT_US)

    def connect(self, conninfo: str = "") -> psycopg.Connection[Any]:
        """A connection as the logger has it: autocommit, our session settings, search_path here."""
        connection = connect(conninfo or self.conninfo, self.name)
        self._open.append(connection)
        return connection

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What a statement returns; none: no rows."""
        cursor = self._control.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        """The one value that a statement returns."""
        ((value,),) = self.rows(statement, *parameters)
        return value

    def stream(
        self,
        kind: type[Repository],
        config: DeviceConfig,
        stream_id: int = 1,
        recipe: str = "bake",
        writer: UUID = WRITER,
    ) -> Stream:
        """A stream on a connection of its own; the device is registered if it is not yet."""
        register_device(self._control, config)
        return kind(self.connect()).open(StreamKey(config.device.device_id, stream_id), recipe, writer)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to see what has changed."""
        return {table: self.rows(f"SELECT {table}::text FROM {table} ORDER BY 1") for table in TABLES}

    def drop(self) -> None:
        for connection in self._open:
            connection.close()
        self._control.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(self.name)))
        if self._control_is_ours:
            self._control.close()


def reachable_folder() -> Path:
    """A new temporary folder that the server's user can enter; as root it runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="plcsim-test-"))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Connection string of a server: PLCSIM_TEST_DATABASE, or an embedded one that is removed after."""
    if given := os.environ.get("PLCSIM_TEST_DATABASE"):
        yield given
        return
    folder = reachable_folder()
    with EmbeddedPostgres(folder / "postgresql", {"fsync": "off"}) as server:  # no power fails here
        yield server.conninfo
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def control(postgres: str) -> Iterator[psycopg.Connection[Any]]:
    """The connection that makes and drops schemas; one that has done it before is twice as fast."""
    with connect(postgres) as connection:
        connection.prepare_threshold = None
        yield connection


@pytest.fixture
def schema(postgres: str, control: psycopg.Connection[Any]) -> Iterator[Schema]:
    """Our tables, empty, in a schema of their own."""
    made = Schema(postgres, f"test_{os.getpid()}_{next(_numbers)}", control)
    yield made
    made.drop()
