"""What every part of the suite is given: server, plan, arms, and how to make a schema and check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import Connection

from bench.analysis.verdict import Targets
from bench.arms.spec import parse_arm
from bench.load.arms import bench_schema
from bench.oracle.invariants import Verification
from bench.oracle.verify import verify
from bench.section import Section
from bench.suite.plan import SuitePlan
from logger.database import connect
from plcsim.config import DeviceConfig


@dataclass
class Suite:
    """The context of a part."""

    conninfo: str
    monitor: Connection[Any]
    """Autocommit, and never inside a transaction: counters are read and schemas dropped with it."""
    plan: SuitePlan
    arms: tuple[str, str]
    """Arm specs of A and B, see bench.arms.spec."""
    own_server: bool
    """Whether the server is ours alone, so that its settings and its log may be touched."""
    say: Callable[[str, float], None]
    """Told what is being done, and how many seconds of the part's plan that was."""
    seed: int
    targets: Targets = field(default_factory=Targets)
    folder: Path | None = None
    """Where histograms go that other tools read; None: nowhere."""

    @contextmanager
    def schema(self, configs: Sequence[DeviceConfig], arm: str = "", name: str = "suite") -> Iterator[str]:
        """A new schema with the devices in it, as the arm's settings want it; dropped after.

        Its name is plcbench_<hex>_<name>. Raises DatabaseError, InputError.
        """
        with bench_schema(self.monitor, self.conninfo, name, configs) as schema:
            if arm:
                with connect(self.conninfo, schema) as connection:
                    parse_arm(arm).prepare_schema(connection, schema)
            yield schema

    def verified(self, section: Section, name: str, schema: str, rows: int | None = None) -> Verification:
        """Let the oracle look at a schema, and keep what it says in the section under a name.

        With `rows`, the history rows that the clients say they stored, another number in the database
        is a violation of I5 ("lost" or "more than was sent").
        """
        with connect(self.conninfo, schema) as connection:
            verification = verify(connection)
        if rows is not None and rows != verification.rows:
            verification.checks["I5"].violated(
                f"the clients say that they stored {rows:,} history rows, the database holds "
                f"{verification.rows:,}"
            )
        section.verifications[name] = verification
        return verification

    @property
    def letters(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(letter, arm spec) of both arms."""
        return ("A", self.arms[0]), ("B", self.arms[1])
