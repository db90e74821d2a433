"""After a load: what the oracle says of a schema, and whether it holds what the writers were told."""

from __future__ import annotations

from bench.arms.oracle import ArmOracle
from bench.arms.spec import parse_arm
from bench.section import Section
from bench.stress.crowd import Crowd
from bench.stress.server import Server

_SCANS = "SELECT coalesce(sum(last_scan), 0) FROM logging_streams"
_FLUSH = "SELECT pg_stat_force_next_flush()"


class Holdings:
    """One schema, looked at before anything is stored in it and afterwards."""

    def __init__(self, section: Section, server: Server, schema: str, arm: str) -> None:
        self._section, self._server, self._schema = section, server, schema
        self._arm = parse_arm(arm)
        with server.connect(schema) as connection:
            self._oracle = ArmOracle(self._arm, connection, schema)

    def check(self, where: str, crowds: list[Crowd]) -> None:
        """Enter the oracle's verification, once the crowds have gone.

        The section is invalid if the database holds more or fewer scans than the writers know to be
        stored. Of an arm that keeps tables of its own the oracle checks what the arm can tell.
        """
        name = f"{self._arm}, {where}"
        stored = sum(crowd.total for crowd in crowds)
        in_doubt = sum(crowd.in_doubt for crowd in crowds)
        with self._server.connect(self._schema) as connection:
            connection.execute(_FLUSH)
            self._section.verifications[name] = self._oracle.verify(connection, stored, in_doubt)
            row = connection.execute(_SCANS).fetchone() if self._arm.is_ours else None
        if row is not None and int(row[0]) != stored:
            self._section.invalid.append(
                f"{name}: the writers stored {stored:,} scans, the database holds {int(row[0]):,}"
            )
