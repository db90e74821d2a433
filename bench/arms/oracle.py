"""What can be checked of an arm: of ours all invariants, of yours what it can tell itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection

from bench.arms.own_class import load_class
from bench.arms.spec import ArmSpec
from bench.arms.sql_file import load_sql
from bench.measuring.resources import changed_rows
from bench.oracle.invariants import INVARIANTS, Check, Verification
from bench.oracle.verify import verify
from logger.database import mapped_errors

_NOT_OURS = "the oracle knows only our tables; an arm of yours is checked by its own queries"


@dataclass
class OwnCheck(Check):
    """A check that is none of the invariants."""

    what: str = ""

    @property
    def title(self) -> str:
        return self.what


class ArmOracle:
    """Looks at an arm's schema before and after a run; the connection's search_path is the schema."""

    def __init__(self, spec: ArmSpec, connection: Connection[Any], schema: str) -> None:
        self._spec, self._schema = spec, schema
        self._stored_before = self._changed_before = 0
        if not spec.is_ours:
            self._stored_before = self._stored(connection) or 0
            self._changed_before = changed_rows(connection, schema)

    def verify(self, connection: Connection[Any], transactions: int, in_doubt: int = 0) -> Verification:
        """Check what is stored against what clients were told: so many transactions, and so many in doubt.

        Nobody may use the connection meanwhile. Raises DatabaseError.
        """
        if self._spec.is_ours:
            return verify(connection)
        checks = {name: Check(name, not_applicable=_NOT_OURS) for name in INVARIANTS}
        own = [self._count(connection, transactions, in_doubt), self._server(connection, transactions)]
        own += self._queries(connection)
        return Verification({**checks, **{check.invariant: check for check in own}})

    def _count(self, connection: Connection[Any], transactions: int, in_doubt: int) -> OwnCheck:
        check = OwnCheck("stored", what="what clients were told is what the tables hold")
        stored = self._stored(connection)
        if stored is None:
            check.not_applicable = "the arm has no way to count (section or method `stored`)"
            return check
        check.checked, check.unit = transactions, "transactions"
        found = stored - self._stored_before
        if not transactions <= found <= transactions + in_doubt:
            doubt = f" and {in_doubt} in doubt" if in_doubt else ""
            check.violated(
                f"clients were told of {transactions:,} transactions{doubt}, the tables hold {found:,}",
                abs(found - transactions),
            )
        return check

    def _server(self, connection: Connection[Any], transactions: int) -> OwnCheck:
        """The least that can be said of anybody's transaction: it changed a row."""
        check = OwnCheck("server", what="the server counted rows for each transaction")
        check.checked, check.unit = transactions, "transactions"
        changed = changed_rows(connection, self._schema) - self._changed_before
        if changed < transactions:
            check.violated(f"{transactions:,} transactions changed {changed:,} rows", transactions - changed)
        return check

    def _stored(self, connection: Connection[Any]) -> int | None:
        """Batches that the tables hold; None: the arm cannot say."""
        with mapped_errors():
            if self._spec.base.endswith(".sql"):
                query = load_sql(Path(self._spec.base)).stored
                return _number(connection, query) if query else None
            count = getattr(load_class(self._spec.base), "stored", None)
            return None if count is None else int(count(connection))

    def _queries(self, connection: Connection[Any]) -> list[OwnCheck]:
        """The arm's own checks."""
        with mapped_errors():
            if self._spec.base.endswith(".sql"):
                found = load_sql(Path(self._spec.base)).checks
                return [_query_check(connection, title, query) for title, query in found.items()]
            own = getattr(load_class(self._spec.base), "check", None)
            if own is None:
                return []
            check = OwnCheck("check", what="the class's own check", checked=1, unit="calls")
            for problem in own(connection):
                check.violated(str(problem))
            return [check]


def _query_check(connection: Connection[Any], title: str, query: str) -> OwnCheck:
    check = OwnCheck(title, what="a query of the SQL file", checked=1, unit="queries")
    if wrong := _number(connection, query):
        check.violated(f"{wrong:,} found", wrong)
    return check


def _number(connection: Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0] or 0) if row else 0
