"""What a class of yours must have to be an arm: `plcbench quick --b MODULE:CLASS`.

There are two ways. A subclass of `logger.repositories.Repository` says by which statement a batch goes
into our tables; then the oracle checks all that it stored. Any other class stores as it likes, in tables
of its own, and has what this protocol says. See examples/own_repository.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from psycopg import Connection

from logger.scan import Batch


class OwnRepository(Protocol):
    """A class that stores scans in its own way.

    One is made for each connection, in the process that uses it, and used by one thread. The
    connection is in autocommit mode and its search_path is a schema of the bench's own, which is
    dropped after the run; clones of the tables named by --tables are in it.
    """

    def __init__(self, connection: Connection[Any]) -> None: ...

    def store(self, batch: Batch) -> None:
        """Store all of a batch in one transaction, or nothing; return once it is committed.

        Raises psycopg.Error if it was not; that is counted as a failure, by its class. Any other
        exception ends the run.
        """


class MakesTables(Protocol):
    """Has tables of its own to make, before anything is stored."""

    def prepare(self, connection: Connection[Any], schema: str) -> None:
        """A static method: make what is needed in the schema, which search_path names already."""


class CountsStored(Protocol):
    """Can count what it stored: the count is compared with what the workers were told."""

    def stored(self, connection: Connection[Any]) -> int:
        """A static method: how many batches the tables hold."""


class ChecksItself(Protocol):
    """Can say what is wrong in its tables."""

    def check(self, connection: Connection[Any]) -> Sequence[str]:
        """A static method: each thing that is wrong, in words; none if all is right."""
