"""Helpers for the suite's parts that check: their context on the tests' server, and arms with a flaw."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from psycopg import Connection

from bench.section import Section
from bench.suite.context import Suite
from bench.suite.plan import load_suite
from logger.database import connect
from logger.repositories import SynchronizingRepository, statements
from logger.scan import Batch

SUITE = Path(__file__).parent.parent / "configs" / "bench" / "suite.yaml"
PARTS_SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'plcbench%'"
SYNCHRONIZING = ("synchronizing", "synchronizing")


class Skipping(SynchronizingRepository):
    """Says that it keeps current values in step, and does not."""

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        return statements.baseline(bool(batch.texts)), {}


class Leaking(SynchronizingRepository):
    """Keeps some memory of every batch that it stores."""

    _kept: list[bytes] = []  # noqa: RUF012

    def statement(self, batch: Batch) -> tuple[str, dict[str, Any]]:
        self._kept.append(b"x" * 100_000)
        return super().statement(batch)


def run_part(
    postgres: str,
    part: ModuleType,
    arms: tuple[str, str] = ("baseline", "synchronizing"),
    width: int = 20,
    **changes: Any,
) -> Section:
    """Run a part of the short suite, its own plan changed; it must leave no schema behind, and say what
    it does as long as it planned to."""
    plan = load_suite(SUITE, short=True)
    of_part = getattr(plan, part.NAME).model_copy(update=changes)
    plan = plan.model_copy(update={"parameters": width, part.NAME: of_part})
    said: list[float] = []
    section = Section(part.NAME)
    with closing(connect(postgres)) as connection:
        before = _schemas(connection)
        suite = Suite(postgres, connection, plan, arms, True, lambda what, seconds: said.append(seconds), 7)
        part.run(suite, section)
        assert _schemas(connection) == before
    assert 0 < sum(said) <= 1.2 * part.planned_seconds(plan)
    section.to_json()
    return section


def _schemas(connection: Connection[Any]) -> int:
    row = connection.execute(PARTS_SCHEMAS).fetchone()
    assert row is not None
    return int(row[0])
