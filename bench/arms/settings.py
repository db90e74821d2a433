"""Settings of an arm: what `+fillfactor=70+pool=4` after its name changes, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from psycopg import Connection, sql

from logger.database import mapped_errors
from plcsim.errors import InputError

_SYNCHRONOUS_COMMIT = ("on", "off", "local", "remote_write", "remote_apply")
_HOT_TABLE = "component_parameters"
"""What is meant where a setting names no table."""
_MOST_CONNECTIONS = 200


@dataclass(frozen=True)
class ArmSettings:
    """All that may stand behind a `+`; None leaves a thing as it is."""

    fillfactor: str | None = None
    """PERCENT of component_parameters, or TABLE:PERCENT."""
    index: str | None = None
    """COLUMN of component_parameters, or TABLE.COLUMN: one more index."""
    synchronous_commit: str | None = None
    """Of the arm's sessions."""
    trigger: str | None = None
    """off: no trigger of the schema's tables fires, those that refuse changes of history neither."""
    pool: int | None = None
    """Connections of a pool; None: one connection without a pool."""

    def prepare(self, connection: Connection[Any], schema: str) -> None:
        """Change the tables of a schema; raises InputError for a table or column that is not there."""
        if self.fillfactor is not None:
            table, percent = _table_of(self.fillfactor, ":")
            _run(connection, "ALTER TABLE {} SET (fillfactor = {})", schema, table, sql.Literal(int(percent)))
        if self.index is not None:
            table, column = _table_of(self.index, ".")
            _require(connection, schema, table, column)
            _run(connection, "CREATE INDEX ON {} ({})", schema, table, sql.Identifier(column))
        if self.trigger == "off":
            for table in tables_in(connection, schema):
                _run(connection, "ALTER TABLE {} DISABLE TRIGGER USER", schema, table)

    def configure(self, connection: Connection[Any]) -> None:
        """Give a session what the settings say of sessions; raises psycopg.Error."""
        if self.synchronous_commit is not None:
            connection.execute(
                "SELECT set_config('synchronous_commit', %s, false)", (self.synchronous_commit,)
            )


def parse_settings(texts: Sequence[str], arm: str) -> ArmSettings:
    """Settings from `key=value` texts; raises InputError that says what would be right."""
    given: dict[str, Any] = {}
    known = [field.name for field in fields(ArmSettings)]
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in known or not equals or not value:
            raise InputError(
                f"arm {arm!r}: {text!r} is no setting; there are "
                "fillfactor=[TABLE:]PERCENT, index=[TABLE.]COLUMN, synchronous_commit=on|off|…, "
                "trigger=on|off, pool=CONNECTIONS"
            )
        if key in given:
            raise InputError(f"arm {arm!r}: {key} is set twice")
        given[key] = _checked(key, value, arm)
    return ArmSettings(**given)


def _checked(key: str, value: str, arm: str) -> Any:
    def wrong(right: str) -> InputError:
        return InputError(f"arm {arm!r}: {key}={value}: must be {right}")

    match key:
        case "fillfactor":
            percent = _table_of(value, ":")[1]
            if not percent.isascii() or not percent.isdecimal() or not 10 <= int(percent) <= 100:
                raise wrong("a percentage from 10 to 100, or TABLE:PERCENT")
        case "synchronous_commit":
            if value not in _SYNCHRONOUS_COMMIT:
                raise wrong(f"one of {', '.join(_SYNCHRONOUS_COMMIT)}")
        case "trigger":
            if value not in ("on", "off"):
                raise wrong("on or off")
        case "pool":
            if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= _MOST_CONNECTIONS:
                raise wrong(f"from 1 to {_MOST_CONNECTIONS} connections")
            return int(value)
    return value


def _table_of(text: str, separator: str) -> tuple[str, str]:
    table, found, rest = text.rpartition(separator)
    return (table, rest) if found else (_HOT_TABLE, rest)


def _run(connection: Connection[Any], statement: str, schema: str, table: str, *more: sql.Composable) -> None:
    _require(connection, schema, table)
    named = sql.SQL(statement).format(sql.Identifier(schema, table), *more)
    with mapped_errors():
        connection.execute(named)


def tables_in(connection: Connection[Any], schema: str) -> list[str]:
    """Names of the tables of a schema, partitioned ones and partitions too."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"
        " ORDER BY 1",
        (sql.Identifier(schema).as_string(connection),),
    ).fetchall()
    return [name for (name,) in rows]


def _require(connection: Connection[Any], schema: str, table: str, column: str | None = None) -> None:
    """Raise InputError unless the table, and its column, are there."""
    tables = tables_in(connection, schema)
    if table not in tables:
        raise InputError(f"an arm's setting names table {table!r}; there are {', '.join(tables)}")
    if column is None:
        return
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (sql.Identifier(schema, table).as_string(connection),),
    ).fetchall()
    if column not in [name for (name,) in rows]:
        columns = ", ".join(name for (name,) in rows)
        raise InputError(f"an arm's setting names column {column!r} of {table}; there are {columns}")
