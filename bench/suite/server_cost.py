"""What transactions cost the server, by its own counters: WAL, full-page images, HOT, dead rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from psycopg import Connection

_WAL = "SELECT wal_records, wal_fpi, wal_bytes::bigint FROM pg_stat_wal"
_TABLES = r"""
SELECT coalesce(sum(n_tup_ins), 0)::bigint,
    coalesce(sum(n_tup_upd) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(n_tup_hot_upd) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(n_dead_tup) FILTER (WHERE relname = 'component_parameters'), 0)::bigint,
    coalesce(sum(pg_relation_size(relid)) FILTER (WHERE relname = 'component_parameters'), 0)::bigint
FROM pg_stat_all_tables WHERE schemaname = %s"""


@dataclass(frozen=True)
class ServerCost:
    """Counters at one moment, or what they grew by between two."""

    wal_records: int
    full_page_images: int
    wal_bytes: int
    inserted: int
    """Rows, into all tables of the schema."""
    updated: int
    """Of component_parameters, as the next ones."""
    hot_updated: int
    dead: int
    table_bytes: int

    def since(self, before: ServerCost) -> ServerCost:
        """What was added; `dead` and `table_bytes` as they are now."""
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in _GROW})

    def per_transaction(self, transactions: int) -> dict[str, float]:
        """Figures for a result."""
        n = max(1, transactions)
        return {
            "transactions": transactions,
            "wal_bytes": self.wal_bytes / n,
            "wal_records": self.wal_records / n,
            "full_page_images": self.full_page_images / n,
            "rows_inserted": self.inserted / n,
            "rows_updated": self.updated / n,
            "hot_share": self.hot_updated / self.updated if self.updated else float("nan"),
            "dead_rows_now": self.dead,
            "current_values_bytes": self.table_bytes,
        }


_GROW = ("wal_records", "full_page_images", "wal_bytes", "inserted", "updated", "hot_updated")


def server_cost(connection: Connection[Any], schema: str) -> ServerCost:
    """Read the counters; WAL is the whole server's, so nobody else should write meanwhile."""
    wal = connection.execute(_WAL).fetchone()
    tables = connection.execute(_TABLES, (schema,)).fetchone()
    assert wal is not None
    assert tables is not None
    return ServerCost(*wal, *tables)
