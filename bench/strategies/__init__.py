"""Ways to keep current values in step, each a repository: measured against the one statement of the product.

`array_join` … `skip_unchanged` differ in the update of current values alone. `several_statements`,
`two_tables_several` and `round_trips` store as the product does, by a statement for each table.
"""

from bench.strategies.separate import RoundTrips, SeveralStatements, TwoTablesSeveral
from bench.strategies.updates import ArrayJoin, InCase, RowByRow, SkipUnchanged, TemporaryTable
from logger.repositories import Repository

UPDATES: dict[str, type[Repository]] = {
    "array_join": ArrayJoin,
    "in_case": InCase,
    "row_by_row": RowByRow,
    "temporary_table": TemporaryTable,
    "skip_unchanged": SkipUnchanged,
}
"""By how they update current values, behind the baseline's statement in the same transaction."""

STATEMENTS: dict[str, type[Repository]] = {
    "two_tables_several": TwoTablesSeveral,
    "several_statements": SeveralStatements,
    "round_trips": RoundTrips,
}
"""By how many statements and round trips a transaction takes."""

STRATEGIES: dict[str, type[Repository]] = {**UPDATES, **STATEMENTS}
"""What `strategy:NAME` may name."""

BREAKS_I2 = frozenset({"skip_unchanged"})
"""Leave `scan` and `updated_at` of what did not change: nobody sees whether it is still being read."""

__all__ = ["BREAKS_I2", "STATEMENTS", "STRATEGIES", "UPDATES"]
