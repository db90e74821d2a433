"""Harm around the commit: connections cut, stalled, black-holed; backends frozen or killed, the server too.

Several loggers, each with a schema of its own, store through one proxy that harms requests at four points.
Every scan must be stored once, and storing must go on within the deadline. The control is a writer that
answers every lost connection by storing the same scan again behind whatever the stream says.
python -m long.commit_faults --harm cut|stall|hole|freeze|kill [--count N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psycopg
from fix_emulator import ALD_FILE
from fix_postgres import Schema
from long.harness import (
    Logger,
    figure,
    finish,
    folder,
    judge,
    logging,
    none,
    plant,
    run_words,
    schema_in,
    server,
    stored,
    until,
)
from long.wire import POINTS, Harm, Suffered, WireProxy

from logger.database import connect, register_device
from logger.database.embedded import EmbeddedPostgres
from logger.errors import StreamMoved
from logger.repositories import SynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import load_device

DEADLINE_S = 10.0
"""Of a call of the database: ForwarderSettings.deadline_s."""
GRACE_S = 5.0
"""After it: cancelled, cut off, connected again."""
LOGGERS = {"cut": 1, "stall": 2, "hole": 10, "freeze": 5, "kill": 1}
POSTMASTER_EVERY = 10
DRAIN_S = 20


class Damage:
    """Chooses who suffers, until each point was hit so often."""

    def __init__(self, what: str, count: int, seed: int) -> None:
        self._dice = random.Random(seed)
        points = {"kill": ("after",), "freeze": ("before", "after")}.get(what, POINTS)
        self._left = [Harm(p, what, self._seconds(what)) for p in points for _ in range(count)]
        self._dice.shuffle(self._left)

    def choose(self) -> Harm | None:
        return self._left.pop() if self._left and self._dice.random() < 0.25 else None

    @property
    def is_over(self) -> bool:
        return not self._left

    def _seconds(self, what: str) -> float:
        share = self._dice.random()
        return 0.0005 + share * 0.0025 if what in ("kill", "freeze") else share * 0.5


def run(what: str, count: int) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        place = stack.enter_context(folder())
        file, _ = stack.enter_context(plant(place, 1, 20))
        proxy = WireProxy(postgres.conninfo)
        stack.callback(proxy.close)
        schemas = [stack.enter_context(schema_in(postgres.conninfo, f"s{n}")) for n in range(LOGGERS[what])]
        loggers = [
            stack.enter_context(logging(words(file, schema, place / f"spool-{n}", proxy), place / f"log-{n}"))
            for n, schema in enumerate(schemas)
        ]
        until(lambda: all(stored(schema) for schema in schemas), "the first scans")
        damage = Damage(what, count, seed=len(schemas))
        proxy.choose = damage.choose
        postmasters = inflict(what, count, damage, proxy, postgres)
        proxy.choose = lambda: None
        schemas = [again(stack, schema) for schema in schemas]
        before = [stored(schema) for schema in schemas]
        until(lambda: all(stored(s) > n + 20 for s, n in zip(schemas, before, strict=True)), "storing again")
        for logger in loggers:
            none("seconds over the time to end", int(logger.terminate(DRAIN_S + 5) is None))
        report(what, count, proxy, schemas, loggers, postmasters)


def words(file: Path, schema: Schema, spool: Path, proxy: WireProxy) -> list[object]:
    limits = ("--interval", "20ms", "--drain", f"{DRAIN_S}s")
    return run_words(file, schema, spool, *limits, conninfo=proxy.conninfo)


def inflict(what: str, count: int, damage: Damage, proxy: WireProxy, postgres: EmbeddedPostgres) -> int:
    """Until all harm is done; lets frozen backends go on once their clients must have given them up."""
    postmasters, thawed = 0, 0
    while not damage.is_over:
        time.sleep(0.05)
        now = time.monotonic()
        while thawed < len(proxy.suffered) and what == "freeze":
            felt = proxy.suffered[thawed]
            if now < felt.at + DEADLINE_S + 3:
                break
            _thaw(felt)
            thawed += 1
        if what == "kill" and len(proxy.suffered) // POSTMASTER_EVERY > postmasters:
            with suppress(OSError, ValueError, IndexError):
                os.kill(postgres.postmaster_pid, signal.SIGKILL)
                postmasters += 1
            _revive(postgres)
    if what == "freeze":
        for felt in proxy.suffered[thawed:]:
            until(lambda at=felt.at: time.monotonic() > at + DEADLINE_S + 3, "its deadline")  # type: ignore[misc]
            _thaw(felt)
    return postmasters


def _thaw(felt: Suffered) -> None:
    with suppress(ProcessLookupError):
        os.kill(felt.backend, signal.SIGCONT)


def _revive(postgres: EmbeddedPostgres) -> None:
    """Start the server again; it waits until what the dead one left has ended."""
    end = time.monotonic() + 30
    while True:
        try:
            with EmbeddedPostgres(postgres.folder, postgres._settings):
                return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def again(stack: ExitStack, schema: Schema) -> Schema:
    """The schema through a new connection: the server may have been killed."""
    return until(lambda: _schema(stack, schema), "the server")


def _schema(stack: ExitStack, schema: Schema) -> Schema | None:
    try:
        return stack.enter_context(schema_in(schema.conninfo, schema.name))
    except Exception:  # noqa: BLE001 - not up yet
        return None


def report(
    what: str, count: int, proxy: WireProxy, schemas: list[Schema], loggers: list[Logger], postmasters: int
) -> None:
    for landed, times in sorted(proxy.landed.items()):
        figure(f"landed: {landed}", times, "times")
    if what == "kill":
        figure("landed: kill -9 of the postmaster", postmasters, "times")
        at_commit = [felt for felt in proxy.suffered if not felt.answered]
        ids = {t.bytes for s in schemas for (t,) in s.rows("SELECT transaction_id FROM logging_transactions")}
        had = sum(any(each in felt.request for each in ids) for felt in at_commit)
        most = min(20, count // 5)
        figure("errors at COMMIT", len(at_commit), "", f">= {most}", len(at_commit) >= most)
        figure("of which had committed", had, "", f">= {most // 4}", had >= most // 4)
    waits = [slowest(schema) for schema in schemas]
    bound = DEADLINE_S + GRACE_S + (3 + 2 if what == "freeze" else 0)
    figure("longest time without a commit", max(waits), "s", f"<= {bound:g}", max(waits) <= bound)
    for schema, logger in zip(schemas, loggers, strict=True):
        none("left in the spool", logger.figures["spooled"], "scans")
        figure("retries", sum(logger.figures["retries"].values()), str(logger.figures["retries"])[:60])
        judge(schema)


def slowest(schema: Schema) -> float:
    """The longest time between two ledger rows, seconds."""
    return float(
        schema.value(
            "SELECT coalesce(max(extract(epoch FROM logged_at - before)), 0) FROM (SELECT logged_at, "
            "lag(logged_at) OVER (ORDER BY logged_at) AS before FROM logging_transactions) pairs"
        )
    )


def control() -> None:
    """A writer that takes every lost connection for "nothing stored": the same scan is stored twice."""
    config = load_device(ALD_FILE)
    layout = ScanLayout(config)
    key = StreamKey(config.device.device_id)
    quality = np.full(layout.size, Quality.GOOD, dtype=np.int16)
    with server() as postgres, schema_in(postgres.conninfo) as schema:
        with connect(postgres.conninfo, schema.name) as connection:
            register_device(connection, config)
        proxy = WireProxy(postgres.conninfo)
        dice = random.Random(1)
        proxy.choose = lambda: Harm(dice.choice(POINTS), "cut") if dice.random() < 0.3 else None
        for n in range(100):
            recorded_at = np.full(layout.size, 1_700_000_000_000_000 + n, dtype=np.int64)
            while True:
                try:
                    with connect(proxy.conninfo, schema.name) as connection:
                        stream = SynchronizingRepository(connection).open(key)
                        scan = Scan(
                            stream.head.last_scan + 1, np.zeros(layout.size), quality, recorded_at, None
                        )
                        stream.store(batch_of([scan], layout))
                        break
                except (psycopg.Error, StreamMoved):
                    continue
        proxy.close()
        twice = schema.value(
            "SELECT count(*) FROM (SELECT recorded_at FROM parameter_value_history WHERE parameter_id = 1"
            " GROUP BY 1 HAVING count(*) > 1) doubled"
        )
        figure("control: stored twice by a naive writer", twice, "scans", "> 0", twice > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harm", choices=sorted(LOGGERS), required=True)
    parser.add_argument("--count", type=int, default=50, help="times at each point; kills in all")
    options = parser.parse_args()
    run(options.harm, options.count)
    if options.harm in ("cut", "kill"):
        control()
    finish()


if __name__ == "__main__":
    main()
