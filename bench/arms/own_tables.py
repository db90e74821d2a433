"""Makes the tables of an arm of yours, and tries its statements once before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import Connection

from bench.arms.foreign import sql_values
from bench.arms.own_class import load_class
from bench.arms.sql_file import SqlFile, Statement, load_sql
from bench.load.failures import DATABASE_ERRORS
from bench.load.machine import FEWEST_PARAMETERS, machine
from bench.load.scan_source import PrecomputedScans
from logger.database import line_of, mapped_errors
from logger.scan import ScanLayout, batch_of
from plcsim.errors import ConfigError

if TYPE_CHECKING:
    from bench.arms.spec import ArmSpec

_CHANGED_ELSEWHERE = """
SELECT DISTINCT format('%%I.%%I', schemaname, relname) FROM pg_stat_xact_all_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0
  AND schemaname <> %s AND schemaname !~ '^(pg_|information_schema$)' ORDER BY 1"""


def prepare_foreign(spec: ArmSpec, connection: Connection[Any], schema: str) -> None:
    """Make an arm's own tables in the schema that search_path names; raises InputError, DatabaseError.

    A SQL file's statements and queries are tried once, and undone: what is wrong in them, or would
    write anywhere but in the schema, is told before anything runs. Of a class that cannot be known.
    """
    if spec.base.endswith(".sql"):
        file = load_sql(Path(spec.base))
        if file.setup.strip():
            with mapped_errors(), connection.transaction():
                connection.execute(file.setup.encode())
                _refuse_writes_elsewhere(connection, schema, file)
        _try(connection, schema, file)
        return
    prepare = getattr(load_class(spec.base), "prepare", None)
    if prepare is not None:
        with mapped_errors():
            prepare(connection, schema)


def _try(connection: Connection[Any], schema: str, file: SqlFile) -> None:
    config = machine(FEWEST_PARAMETERS)
    layout = ScanLayout(config)
    batch = batch_of([PrecomputedScans(config, prepared=1).next(1)], layout)
    values = sql_values(batch)
    queries = [Statement(query, 0) for query in (file.stored, *file.checks.values()) if query]
    with connection.transaction(force_rollback=True):
        for statement in (*file.transaction, *queries):
            try:
                connection.execute(statement.text.encode(), values if statement.line else None)
            except DATABASE_ERRORS as exc:
                raise ConfigError(
                    f"the database refuses it: {line_of(exc)}",
                    source=str(file.path),
                    line=statement.line or None,
                ) from None
        _refuse_writes_elsewhere(connection, schema, file)


def _refuse_writes_elsewhere(connection: Connection[Any], schema: str, file: SqlFile) -> None:
    """Raise InputError if this transaction has changed a row of a table outside of the schema."""
    rows = connection.execute(_CHANGED_ELSEWHERE, (schema,)).fetchall()
    if rows:
        tables = ", ".join(name for (name,) in rows)
        raise ConfigError(
            f"it would write to {tables}, and nothing but schema {schema} may be changed: clone the table "
            "with --tables and leave its schema out of the statement (and of its triggers)",
            source=str(file.path),
        )
