"""Fixture `refused`: an oven some of whose scans the database refused, and an operator's connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fix_plant import Plant, violations
from fix_postgres import Schema
from fix_scans import Oven
from psycopg import Connection

from logger.database.reinsertion import Reinsertable, ReinsertionReport, reinsert
from logger.repositories import SynchronizingRepository
from logger.scan import Gap, Scan, StreamKey

KEY = StreamKey("oven-1", 1)
ROWS_OF_TWO = 10
"""Of a transaction that holds two scans of the oven at most."""
STANDING = (
    "SELECT count(*) FROM reinsertions WHERE ledger_id NOT IN (SELECT transaction_id FROM compensations)"
)


class Refused:
    """An oven some of whose scans were refused: they are in quarantine, and gaps are in their places."""

    def __init__(self, schema: Schema, oven: Oven, kind: Any = SynchronizingRepository) -> None:
        self.schema, self.oven = schema, oven
        self.stream = schema.stream(kind, oven.config)
        self.operator = schema.connect()
        self._plant = Plant(schema)
        self.quarantine: dict[int, Reinsertable] = {}

    def log(self, *scans: Scan, refused: Sequence[int] = ()) -> None:
        for scan in scans:
            if scan.number in refused:
                self.stream.record_gap(Gap(scan.number, scan.number, "refused by the database"))
                self.quarantine[scan.number] = Reinsertable(KEY, scan.number, scan)
            else:
                self.stream.store(self.oven.batch(scan))

    def insert(self, *numbers: int, connection: Connection[Any] | None = None) -> ReinsertionReport:
        """Without numbers everything."""
        scans = [self.quarantine[number] for number in numbers or self.quarantine]
        return reinsert(connection or self.operator, scans, "J. Doe", ROWS_OF_TWO)

    def check(self) -> None:
        assert violations(self._plant.verify()) == {}


@pytest.fixture
def refused(schema: Schema, oven: Oven) -> Refused:
    """Scans 1 to 11, of which 4 to 7 were refused."""
    made = Refused(schema, oven)
    made.log(*oven.run_of(1, 11), refused=range(4, 8))
    return made


@contextmanager
def refusing(schema: Schema, condition: str = "scan % 4 <> 3") -> Iterator[None]:
    """The database refuses scans 7, 11, 15 … for good: the last of each four that are refused together."""
    table = "ALTER TABLE parameter_value_history"
    schema.rows(f"{table} ADD CONSTRAINT poison CHECK ({condition}) NOT VALID")
    yield
    schema.rows(f"{table} DROP CONSTRAINT poison")
