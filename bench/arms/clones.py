"""Clones of the user's own tables in a schema of the bench's, so that nothing of the user's is changed.

A clone has columns, defaults, checks, indexes, storage settings, triggers, and the foreign keys among
cloned tables. A default that draws from a sequence draws from one of the clone's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from logger.database import mapped_errors
from plcsim.errors import InputError

_TABLE = """
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, coalesce(c.reloptions, '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)"""

_SEQUENCES = """
SELECT a.attname, a.atttypid::regtype::text, s.relname, q.seqincrement
FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
    AND p.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = s.oid
WHERE d.adrelid = %s"""

_COLUMNS = """
SELECT attname, attidentity <> '' FROM pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"""

_FOREIGN_KEYS = """
SELECT k.conname, k.confrelid, pg_get_constraintdef(k.oid), format('%%I.%%I', n.nspname, c.relname)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = %s AND k.contype = 'f' AND k.conparentid = 0"""

_TRIGGERS = """
SELECT pg_get_triggerdef(t.oid), format('%%I.%%I', n.nspname, c.relname), t.tgenabled
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.tgrelid = %s AND NOT t.tgisinternal AND t.tgparentid = 0"""


@dataclass(frozen=True)
class _Table:
    """A table of the user's."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    options: list[str]

    @property
    def here(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def clone(self, schema: str) -> sql.Identifier:
        return sql.Identifier(schema, self.name)


@dataclass(frozen=True)
class Clones:
    """Tables to clone, as `schema.table`; without a schema, of `public`."""

    tables: tuple[str, ...] = ()
    copy_rows: bool = False

    def check(self, connection: Connection[Any]) -> None:
        """Raise InputError unless all of them are tables, each of another name."""
        tables = [_look(connection, name) for name in self.tables]
        names = [table.name for table in tables]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"--tables names two tables {name!r}: their clones would be one")

    def make(self, connection: Connection[Any], schema: str) -> list[str]:
        """Clone them all; returns what a clone has not, one line each. Raises InputError, DatabaseError.

        A table of ours that has the name of one of them gives way.
        """
        tables = [_look(connection, name) for name in self.tables]
        notes: list[str] = []
        with mapped_errors(), connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0")
            if connection.info.server_version >= 170000:
                connection.execute("SET LOCAL transaction_timeout = 0")
            connection.execute("SET LOCAL search_path = pg_catalog")  # so that definitions name schemas
            for table in tables:
                _structure(connection, table, schema, notes)
                if self.copy_rows:
                    _rows(connection, table, schema)
            for table in tables:
                _foreign_keys(connection, table, tables, schema, notes)
                _triggers(connection, table, schema)
                connection.execute(sql.SQL("ANALYZE {}").format(table.clone(schema)))
        return notes


def parse_tables(text: str, copy_rows: bool = False) -> Clones:
    """Clones from `schema.table,schema.table`; raises InputError for an empty name."""
    names = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(names):
        raise InputError(f"--tables {text!r}: a name is empty; it looks like plant.readings,plant.limits")
    return Clones(names, copy_rows)


def _look(connection: Connection[Any], name: str) -> _Table:
    full = name if "." in name else f"public.{name}"
    with mapped_errors():
        row = connection.execute(_TABLE, (full,)).fetchone()
    if row is None:
        raise InputError(f"--tables: there is no table {full} in database {connection.info.dbname!r}")
    if row[3] not in ("r", "p"):
        raise InputError(f"--tables: {full} is no table, so it cannot be cloned")
    return _Table(*row)


def _structure(connection: Connection[Any], table: _Table, schema: str, notes: list[str]) -> None:
    clone = table.clone(schema)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(clone))
    unlogged = sql.SQL("UNLOGGED ") if table.persistence == "u" else sql.SQL("")
    create = sql.SQL("CREATE {}TABLE {} (LIKE {} INCLUDING ALL)")
    connection.execute(create.format(unlogged, clone, table.here))
    if table.kind == "p":
        notes.append(f"{table.schema}.{table.name} is partitioned, its clone is one table")
    else:
        for option in table.options:
            key, _, value = option.partition("=")
            change = sql.SQL("ALTER TABLE {} SET ({} = {})")
            connection.execute(change.format(clone, sql.SQL(_plain(key)), sql.Literal(value)))
    for column, kind, sequence, step in connection.execute(_SEQUENCES, (table.oid,)).fetchall():
        _own_sequence(connection, table, schema, column, kind, sequence, step)


def _plain(option: str) -> Any:
    """The name of a storage setting, as the server itself gave it: letters, digits, _ and a dot."""
    if not option.replace("_", "").replace(".", "").isalnum():
        raise InputError(f"--tables: {option!r} is no storage setting")
    return option


def _own_sequence(
    connection: Connection[Any], table: _Table, schema: str, column: str, kind: str, sequence: str, step: int
) -> None:
    """A sequence for the clone: the user's must not move."""
    own = sql.Identifier(schema, sequence)
    exists = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (own.as_string(connection),)).fetchone()
    if exists == (False,):
        create = sql.SQL("CREATE SEQUENCE {} AS {} INCREMENT {}")
        sized = kind if kind in ("smallint", "integer", "bigint") else "bigint"
        connection.execute(create.format(own, sql.SQL(sized), sql.Literal(step)))
    change = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT nextval({}::regclass)")
    named = sql.Literal(own.as_string(connection))
    connection.execute(change.format(table.clone(schema), sql.Identifier(column), named))


def _rows(connection: Connection[Any], table: _Table, schema: str) -> None:
    """Copy what the table holds; identity and sequences go on behind it."""
    columns = connection.execute(_COLUMNS, (table.oid,)).fetchall()
    if not columns:
        return
    names = sql.SQL(", ").join(sql.Identifier(name) for name, _ in columns)
    copy = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}")
    connection.execute(copy.format(table.clone(schema), names, names, table.here))
    drawn = {(name, None) for name, is_identity in columns if is_identity}
    drawn |= {(row[0], row[2]) for row in connection.execute(_SEQUENCES, (table.oid,))}
    clone = table.clone(schema).as_string(connection)
    for column, sequence in drawn:
        own = sql.Literal(sql.Identifier(schema, sequence).as_string(connection)) if sequence else (
            sql.SQL("pg_get_serial_sequence({}, {})").format(sql.Literal(clone), sql.Literal(column))
        )  # fmt: skip
        behind = sql.SQL("SELECT setval({}, coalesce(max({}), 0) + 1, false) FROM {}")
        connection.execute(behind.format(own, sql.Identifier(column), table.clone(schema)))


def _foreign_keys(
    connection: Connection[Any], table: _Table, tables: Sequence[_Table], schema: str, notes: list[str]
) -> None:
    clones = {each.oid: each for each in tables}
    for name, target, definition, named in connection.execute(_FOREIGN_KEYS, (table.oid,)).fetchall():
        if target not in clones:
            notes.append(f"{table.schema}.{table.name}: foreign key {name} to {named} is left out")
            continue
        there = clones[target].clone(schema).as_string(connection)
        text = definition.replace(f" REFERENCES {named}(", f" REFERENCES {there}(", 1)
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}")
        connection.execute(add.format(table.clone(schema), sql.Identifier(name), sql.SQL(text)))


def _triggers(connection: Connection[Any], table: _Table, schema: str) -> None:
    """Made last, so that copied rows fire none; one that is disabled is left out."""
    clone = table.clone(schema).as_string(connection)
    for definition, named, enabled in connection.execute(_TRIGGERS, (table.oid,)).fetchall():
        if enabled in ("O", "A"):
            connection.execute(definition.replace(f" ON {named} ", f" ON {clone} ", 1).encode())
