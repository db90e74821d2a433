"""The server that a scenario may stop, kill and start again; or one that was given, which it may not."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from psycopg import Connection, sql

from bench.arms.spec import parse_arm
from bench.load.arms import BENCH_SETTINGS
from bench.load.emulators import signals_held
from logger.database import checked_conninfo, connect, mapped_errors, prepare_schema, register_devices
from logger.database.embedded import EmbeddedError, EmbeddedPostgres, data_folder
from logger.errors import DatabaseError
from plcsim.config import DeviceConfig
from plcsim.errors import PlcsimError

_FREE_CONNECTIONS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"""
_LEFT_TO_OTHERS = 10
_ENDS_S = 30.0
_ANALYZED = (
    "devices",
    "component_parameters",
    "logging_streams",
    "parameter_value_history",
    "process_data_points",
)

StopMode = Literal["smart", "fast", "immediate"]


class NotMeasured(PlcsimError):
    """This environment does not allow it; the message says why. No failure of what is measured."""


class OwnPostgres(EmbeddedPostgres):
    """An embedded server that can be stopped, killed and started while it is in use.

    Its connection string stays the same throughout.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__(folder, settings)
        self._sockets: Path | None = None
        self._was_killed = False

    def start(self) -> None:
        """Start it again in the same folder; recovers what a kill has left. Raises EmbeddedError."""
        with self._locked():
            if not self._is_running():
                self._start()
        self._was_killed = False

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it as `pg_ctl stop -m MODE` does, and wait for its end."""
        self._control("stop", "-m", mode)

    def kill(self) -> None:
        """kill -9 of the postmaster and every backend; returns when none of them runs any more."""
        postmaster = self.postmaster_pid
        self._was_killed = True
        family = [postmaster, *_children(postmaster)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _wait_until(lambda: not any(_runs(pid) for pid in family), "the killed server to end")

    def log_text(self) -> str:
        """What the server has logged."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def end(self) -> None:
        """Whatever was done to it: nothing of it runs, and no shared memory of it is left."""
        if self._was_killed:
            with suppress(EmbeddedError):
                self.start()  # only a server that starts removes what a killed one has left
        self.stop("immediate")

    def remove(self) -> None:
        super().remove()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _socket_folder(self) -> Path:
        if self._sockets is None:
            self._sockets = super()._socket_folder()
        return self._sockets


class Server:
    """The server of a scenario."""

    def __init__(self, conninfo: str, own: OwnPostgres | None) -> None:
        self.conninfo = conninfo
        self._own = own

    @property
    def own(self) -> OwnPostgres:
        """The server, if it is ours to stop; NotMeasured if the user gave it."""
        if self._own is None:
            raise NotMeasured("needs a server of our own, for it is stopped or filled up")
        return self._own

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def connect(self, schema: str = "public") -> Connection[Any]:
        """As `logger.database.connect`; the caller closes it."""
        return connect(self.conninfo, schema)

    @contextmanager
    def schema(self, name: str, configs: Sequence[DeviceConfig], arm: str = "baseline") -> Iterator[str]:
        """A schema of our own with the devices and what the arm needs; dropped after.

        A server of our own may be down by then: its removal takes the schema with it.
        """
        schema = f"plcbench_{uuid4().hex[:8]}_{name}"
        try:
            with self.connect(schema) as connection:
                prepare_schema(connection, schema)
                register_devices(connection, configs)
                parse_arm(arm).prepare_schema(connection, schema)
            self.analyze(schema)
            yield schema
        finally:
            may_be_down = suppress(DatabaseError) if self.is_own else nullcontext()
            with may_be_down, self.connect() as connection, mapped_errors():
                connection.execute("SET statement_timeout = 0; SET lock_timeout = '60s'")
                drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
                connection.execute(drop.format(sql.Identifier(schema)))

    def spare_connections(self) -> int | None:
        """How many connections we may take of a given server so that others still find one; None: all of
        our own."""
        if self.is_own:
            return None
        with self.connect() as connection, mapped_errors():
            row = connection.execute(_FREE_CONNECTIONS).fetchone()
        return max(0, int(row[0]) - _LEFT_TO_OTHERS) if row else 0

    def analyze(self, schema: str) -> None:
        """Give the planner statistics, as autovacuum does on a server that is not ours for a minute: without
        them it joins a thousand parameters row by row."""
        with self.connect(schema) as connection, mapped_errors():
            for table in _ANALYZED:
                connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))

    def wait_until_up(self, seconds: float = _ENDS_S) -> None:
        """Wait until it takes connections; raises PlcsimError if it does not."""

        def is_up() -> bool:
            with suppress(DatabaseError), self.connect():
                return True
            return False

        _wait_until(is_up, "the server to take connections", seconds)


@contextmanager
def stress_server(
    url: str | None, settings: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[Server]:
    """The given server, or a new one with the bench's settings and these, removed after.

    `folder`: where to make it (a file system of its own, say), an empty folder that stays.
    """
    if url is not None:
        yield Server(checked_conninfo(url), None)
        return
    with ExitStack() as stack:
        with signals_held(signal.SIGINT, signal.SIGTERM):  # a server half started cannot be removed
            parent = folder or data_folder()
            parent.mkdir(parents=True, exist_ok=True)
            own = OwnPostgres(
                Path(tempfile.mkdtemp(prefix="stress-", dir=parent)), {**BENCH_SETTINGS, **(settings or {})}
            )
            stack.callback(own.remove)
            stack.enter_context(own)
            stack.callback(own.end)
        yield Server(own.conninfo, own)


def _children(parent: int) -> list[int]:
    """Direct children of a process, from /proc; a backend has none of its own."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool], what: str, seconds: float = _ENDS_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PlcsimError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
