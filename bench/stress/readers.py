"""Readers that keep an old snapshot: while one is open, no row version that it might see can be pruned."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from psycopg import Connection

from bench.load.failures import DATABASE_ERRORS
from bench.stress.rig import until
from logger.database import connect
from logger.database.embedded import postgres_binaries
from plcsim.errors import PlcsimError

Reader = Callable[[str, str], AbstractContextManager[None]]
"""Given connection string and schema: keeps its snapshot from the beginning of the block to its end."""

_LONGEST_S = 3600
_DUMP = "plcbench-dump"


@contextmanager
def dump(conninfo: str, schema: str) -> Iterator[None]:
    """pg_dump of the schema, into something that takes no more than a pipe holds until the end."""
    command = [
        str(postgres_binaries() / "pg_dump"),
        f"--dbname={conninfo} application_name={_DUMP}",
        f"--schema={schema}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with connect(conninfo) as monitor:

                def has_snapshot() -> bool:
                    if process.poll() is not None:
                        _, complaint = process.communicate()
                        raise PlcsimError(f"pg_dump ended: {complaint.decode(errors='replace').strip()}")
                    return bool(
                        monitor.execute(
                            "SELECT 1 FROM pg_stat_activity"
                            " WHERE application_name = %s AND backend_xmin IS NOT NULL",
                            (_DUMP,),
                        ).fetchone()
                    )

                until(has_snapshot, "the dump to begin")
            yield
        finally:
            process.kill()  # who is interested in the dump has long seen it begin


@contextmanager
def dashboard_query(conninfo: str, schema: str) -> Iterator[None]:
    """One statement over the history that does not end."""
    with connect(conninfo, schema) as connection:
        _lift_limits(connection)

        def query() -> None:
            with suppress(*DATABASE_ERRORS):  # it is cancelled
                connection.execute(
                    "SELECT avg(value), (SELECT pg_sleep(%s)) FROM parameter_value_history", (_LONGEST_S,)
                )

        thread = threading.Thread(target=query, daemon=True)
        thread.start()
        try:
            _wait_for_snapshot(conninfo, connection.info.backend_pid)
            yield
        finally:
            connection.cancel_safe()
            thread.join()


@contextmanager
def idle_transaction(conninfo: str, schema: str, isolation: str = "REPEATABLE READ") -> Iterator[None]:
    """Somebody's session that has read once and forgot to end its transaction.

    At READ COMMITTED, which is the default, such a session keeps no snapshot.
    """
    with connect(conninfo, schema) as connection:
        _lift_limits(connection)
        connection.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode())
        connection.execute("SELECT count(*) FROM component_parameters")
        yield
        connection.execute("ROLLBACK")


READERS: dict[str, Reader] = {
    "dump": dump,
    "dashboard query": dashboard_query,
    "idle transaction": idle_transaction,
}


def _lift_limits(connection: Connection[object]) -> None:
    for name in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
        connection.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = %s", (name,))


def _wait_for_snapshot(conninfo: str, pid: int) -> None:
    with connect(conninfo) as monitor:
        until(
            lambda: monitor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND backend_xmin IS NOT NULL", (pid,)
            ).fetchone(),
            "the reader to have its snapshot",
        )
