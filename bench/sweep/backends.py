"""What the server's processes for a trial's connections use, as long as the server is on this machine."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from bench.measuring.resources import ProcessUse, is_postgres, process_use
from logger.database import checked_conninfo

_OF_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"


def marked(conninfo: str, name: str) -> str:
    """A connection string whose sessions are known by a name; the last of two equal keys counts for libpq."""
    return f"{checked_conninfo(conninfo)} application_name='{name}'"


class Backends:
    """Looks at the backends of the sessions with a name; each is remembered as it was seen last."""

    def __init__(self, monitor: Connection[Any], name: str) -> None:
        self._monitor, self._name = monitor, name
        self._seen: dict[int, ProcessUse] = {}

    def look(self) -> None:
        for (pid,) in self._monitor.execute(_OF_OURS, (self._name,)).fetchall():
            if is_postgres(pid) and (use := process_use(pid)) is not None:
                self._seen[pid] = use

    def uses(self) -> list[ProcessUse]:
        """Of each, since it was started; none where the server is on another machine."""
        return list(self._seen.values())
