"""An arm's spec: one text that says what stores the scans, and with which settings.

    baseline                            a repository of ours
    strategy:in_case                    a way to update current values, of bench.strategies
    my_package.storing:MyRepository     a class of yours, see bench.arms.protocol
    path/to/transaction.sql             statements of yours, see bench.arms.sql_file

each with settings behind it: `synchronizing+fillfactor=100+synchronous_commit=off`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from psycopg import Connection

from bench.arms.foreign import ForeignRepository
from bench.arms.own_class import load_class
from bench.arms.own_tables import prepare_foreign
from bench.arms.settings import ArmSettings, parse_settings
from bench.arms.sql_file import load_sql
from bench.strategies import STRATEGIES
from logger.repositories import (
    REPOSITORIES,
    Repository,
    SharedSynchronizingRepository,
    SynchronizingRepository,
)
from plcsim.errors import InputError

SHARED_SYNCHRONIZING = "synchronizing (several writers a device)"
"""The synchronizing repository that locks a device's row first."""
_STRATEGY = "strategy:"
_SQL = ".sql"


class Kind(Enum):
    """Whose the arm is."""

    OURS = "a repository that keeps our tables"
    CLASS = "a class of yours"
    SQL = "a SQL file of yours"


@dataclass(frozen=True)
class ArmSpec:
    """A parsed spec; picklable, and it opens what it names in the process where it is used."""

    text: str
    """As it was given."""
    base: str
    """Without its settings."""
    kind: Kind
    settings: ArmSettings

    @property
    def is_ours(self) -> bool:
        """Whether it keeps our tables, so that the oracle can check all of I1 to I6."""
        return self.kind is Kind.OURS

    @property
    def pool(self) -> int | None:
        """Connections of the arm's pool; None: it has a connection without a pool."""
        return self.settings.pool

    def open(self, connections: Any, several_writers: bool = False) -> Repository | ForeignRepository:
        """What stores, over a connection that `logger.database.connect` made, or over a pool.

        `several_writers`: several streams write the same parameters of a device. A connection is given the
        arm's session settings; of a pool, each was when it was made (`bench.arms.pool`). Raises
        psycopg.Error, InputError.
        """
        if isinstance(connections, Connection):
            self.settings.configure(connections)
        if self.is_ours:
            return self.repository_class(several_writers)(connections)
        return ForeignRepository(self, connections)

    def repository_class(self, several_writers: bool = False) -> type[Repository]:
        """The repository's class; ValueError for an arm that is not ours."""
        if not self.is_ours:
            raise ValueError(f"{self.text} is {self.kind.value}")
        found = _repository_class(self.base)
        if not several_writers or not issubclass(found, SynchronizingRepository) or found.shared_device:
            return found
        return type(found.__name__, (found,), {"shared_device": True})

    def prepare_schema(self, connection: Connection[Any], schema: str) -> None:
        """Make in a schema with our tables what the arm needs beyond them: its own tables, its settings.

        Raises InputError, DatabaseError.
        """
        if not self.is_ours:
            prepare_foreign(self, connection, schema)
        self.settings.prepare(connection, schema)

    def __str__(self) -> str:
        return self.text


def parse_arm(text: str) -> ArmSpec:
    """Parse a spec; raises InputError, in one line that says what would be right.

    Looks at files and classes too: what is wrong is told before anything runs.
    """
    base, *settings = text.strip().split("+")
    kind = _kind_of(base, text)
    return ArmSpec(text.strip(), base, kind, parse_settings(settings, text))


def source_file(base: str) -> Path | None:
    """The file that holds the code of an arm of the user's, by its spec without settings; None of ours."""
    if base.endswith(_SQL):
        return Path(base)
    if ":" not in base or base.startswith(_STRATEGY):
        return None
    module = sys.modules.get(load_class(base).__module__)
    found = getattr(module, "__file__", None)
    return Path(found) if found else None


def known_arms() -> list[str]:
    """Specs of our own arms, without settings."""
    return [*REPOSITORIES, *(f"{_STRATEGY}{name}" for name in STRATEGIES)]


def _kind_of(base: str, text: str) -> Kind:
    if base in REPOSITORIES or base == SHARED_SYNCHRONIZING or base in known_arms():
        return Kind.OURS
    if base.endswith(_SQL):
        load_sql(Path(base))
        return Kind.SQL
    if ":" in base and not base.startswith(_STRATEGY):
        return Kind.OURS if issubclass(load_class(base), Repository) else Kind.CLASS
    raise InputError(
        f"{text!r} is not an arm; there are {', '.join(known_arms())}, MODULE:CLASS and FILE.sql, each with "
        "settings such as +fillfactor=70"
    )


def _repository_class(base: str) -> type[Repository]:
    if base in REPOSITORIES:
        return REPOSITORIES[base]
    if base == SHARED_SYNCHRONIZING:
        return SharedSynchronizingRepository
    if base.startswith(_STRATEGY):
        return STRATEGIES[base.removeprefix(_STRATEGY)]
    found = load_class(base)
    assert issubclass(found, Repository)
    return found
