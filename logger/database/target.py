"""Names a database, for messages and for the spool, which must not be emptied into another one."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict


def target_of(conninfo: str, schema: str) -> str:
    """host:port/database and schema of a connection string that was checked; no user, no password."""
    given: dict[str, Any] = conninfo_to_dict(conninfo)
    host = given.get("host") or given.get("hostaddr") or given.get("service") or "local"
    database = given.get("dbname") or given.get("user") or ""
    return f"{host}:{given.get('port') or 5432}/{database}, schema {schema}"
