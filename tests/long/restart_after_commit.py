"""kill -9 of the logger between a COMMIT and its answer; it starts again with another batch limit.

The answer to a commit is withheld, and the logger killed while it waits for it: what is stored must not be
stored again, however the next life puts its transactions together. The control sends everything that waits
again, without asking what is stored.
python -m long.restart_after_commit [--count N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count

from fix_postgres import Schema
from long.harness import (
    Logger,
    figure,
    finish,
    folder,
    in_spool,
    judge,
    none,
    plant,
    run_words,
    scans_at,
    schema_in,
    server,
    stored,
    until,
)
from long.wire import Harm, WireProxy
from spoiled import ScansATransaction, asks_nobody
from survival import stored_twice

from logger.database.embedded import EmbeddedPostgres
from logger.scan import StreamKey

LIMITS = (1, 2, 3, 7, 20, 50)
"""Scans of a stream in one transaction; 20 is the logger's own."""


class Lives:
    """Loggers on one spool, each killed at one of its first commits; what they had accepted is remembered."""

    def __init__(self, stack: ExitStack, postgres: EmbeddedPostgres, schema: Schema) -> None:
        place = stack.enter_context(folder())
        file, _ = stack.enter_context(plant(place, 1, 20))
        self.proxy, self.schema = WireProxy(postgres.conninfo), schema
        stack.callback(self.proxy.close)
        self._spool, self._place = place / "spool", place / "log"
        options = ("--interval", "20ms")
        self._words = run_words(file, schema, self._spool, *options, conninfo=self.proxy.conninfo)
        self._dice = random.Random(11)
        self.accepted: dict[StreamKey, set[int]] = {}

    def killed(self, *spoils: Callable[[], None]) -> None:
        """One life: until the server has answered a commit and the logger has not heard it."""
        self.proxy.refuses = True
        logger = Logger(self._words, self._place, *spoils, ScansATransaction(self._dice.choice(LIMITS)))
        time.sleep(0.3 + self._dice.random() * 0.4)  # scans gather
        before, passed, first = len(self.proxy.suffered), count(), self._dice.randrange(3)
        self.proxy.choose = lambda: Harm("after", "hole") if next(passed) == first else None
        self.proxy.refuses = False
        suffered = self.proxy.suffered
        until(lambda: len(suffered) > before and suffered[-1].is_done, "a commit without an answer")
        logger.kill()
        for key, found in in_spool(self._spool).items():
            self.accepted.setdefault(key, set()).update(found.values())

    def last(self, *spoils: Callable[[], None]) -> None:
        """One that is left alone."""
        self.proxy.choose = lambda: None
        before = stored(self.schema)
        logger = Logger(self._words, self._place, *spoils)
        until(lambda: stored(self.schema) > before + 20, "scans to be stored")
        none("seconds over the time to end", int(logger.terminate(20) is None))

    @property
    def had_committed(self) -> int:
        """Withheld answers whose transaction is in the ledger."""
        ids = [t.bytes for (t,) in self.schema.rows("SELECT transaction_id FROM logging_transactions")]
        return sum(any(each in felt.request for each in ids) for felt in self.proxy.suffered)


def run(times: int) -> None:
    with server() as postgres, ExitStack() as stack:
        schema = stack.enter_context(schema_in(postgres.conninfo))
        lives = Lives(stack, postgres, schema)
        for _ in range(times):
            lives.killed()
        lives.last()
        landed = lives.had_committed
        figure("loggers killed before the answer of a commit", landed, "", f"= {times}", landed == times)
        accepted = sum(map(len, lives.accepted.values()))
        figure("accepted scans in what they left", accepted, "scans", "> 0", accepted > 0)
        there = scans_at(schema)
        lost = sum(len(found - there.get(key, set())) for key, found in lives.accepted.items())
        none("accepted and lost", lost, "scans")
        none("stored twice", stored_twice(schema), "scans")
        judge(schema)


def control() -> None:
    with server() as postgres, ExitStack() as stack:
        schema = stack.enter_context(schema_in(postgres.conninfo))
        lives = Lives(stack, postgres, schema)
        lives.killed(asks_nobody)
        lives.last(asks_nobody)
        twice = stored_twice(schema)
        figure("control: stored twice by one that does not ask", twice, "scans", "> 0", twice > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    run(parser.parse_args().count)
    control()
    finish()


if __name__ == "__main__":
    main()
