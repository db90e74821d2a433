"""Harm around the commit: connections cut, stalled, black-holed; backends frozen or killed, the server too.

Several loggers, each with a schema of its own, store through a proxy each that harms commits at four points,
one at a time: the next when a transaction was stored again. Every scan must be stored once, and storing must
go on within the deadline, counted from the harm (or from when a frozen backend that may hold the stream's row
goes on). Controls: a writer that answers every lost connection by storing the same scan again behind whatever
the stream says, and a logger without a deadline of its own.
python -m long.commit_faults --harm cut|stall|hole|freeze|kill [--count N] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

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
from spoiled import waits_for_ever

from logger.database import connect, register_device
from logger.database.embedded import EmbeddedPostgres
from logger.errors import StreamMoved
from logger.repositories import SynchronizingRepository
from logger.scan import Quality, Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import load_device

DEADLINE_S = 10.0
"""Of a call of the database: ForwarderSettings.deadline_s."""
GRACE_S = 5.0
"""After it: cancelled, cut off, connected again, the stream's row free again."""
FREE_S, HOLDING_S = 20.0, 13.0
"""When a frozen backend goes on: one that holds no row after the bound, one that may when it was given up."""
STALLED_S = 20.0
"""A stall that outlasts the deadline: its request arrives when the client has long been elsewhere."""
LONG_STALLS = 10
"""Every so many stalls are so long; the others are shorter than half a second."""
LOGGERS = {"cut": 1, "stall": 2, "hole": 10, "freeze": 1, "kill": 1}
POSTMASTER_EVERY = 10
DRAIN_S = 20
HOPELESS_S = 60.0
"""Without another commit that could be harmed."""
FRESH = "SELECT coalesce(clock_timestamp() - max(last_recorded_at) < '2 s', false) FROM logging_transactions"


class Damage:
    """Chooses who suffers, until each point was hit so often."""

    def __init__(self, what: str, count: int, seed: int) -> None:
        self._dice = random.Random(seed)
        points = {"freeze": ("before", "after")}.get(what, POINTS)
        hits = [(point, n) for point in points for n in range(count)]
        if what == "kill":
            hits = [("after" if n % 10 else "reply", n) for n in range(count)]
        self._left = [Harm(point, what, self._seconds(what, n)) for point, n in hits]
        self.planned = Counter(point for point, _ in hits)
        self._dice.shuffle(self._left)
        self._choosing = threading.Lock()

    def choose_for(self, proxy: WireProxy) -> Callable[[], Harm | None]:
        def choose() -> Harm | None:
            with self._choosing:
                may = self._left and not proxy.is_suffering and self._dice.random() < 0.25
                return self._left.pop() if may else None

        return choose

    @property
    def is_over(self) -> bool:
        return not self._left

    def _seconds(self, what: str, number: int) -> float:
        share = self._dice.random()
        if what == "stall" and number % LONG_STALLS == 0:
            return STALLED_S
        return 0.0005 + share * 0.0025 if what in ("kill", "freeze") else share * 0.5


@dataclass
class Arm:
    """A logger, the proxy that it stores through, and its schema."""

    schema: Schema
    proxy: WireProxy
    logger: Logger


def run(what: str, count: int) -> None:
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        arms = loggers(stack, postgres, LOGGERS[what])
        damage = Damage(what, count, seed=len(arms))
        for arm in arms:
            arm.proxy.choose = damage.choose_for(arm.proxy)
        postmasters = inflict(what, damage, [arm.proxy for arm in arms], postgres)
        ended = time.monotonic()
        for arm in arms:
            arm.schema = again(stack, arm.schema)
            until(lambda arm=arm: arm.schema.value(FRESH), "the backlog to drain", 300)  # type: ignore[misc]
        figure("drained after the last harm", time.monotonic() - ended, "s")
        for arm in arms:
            none("seconds over the time to end", int(arm.logger.terminate(DRAIN_S + 5) is None))
        report(what, damage.planned, arms, postmasters)


def loggers(
    stack: ExitStack, postgres: EmbeddedPostgres, count: int, *spoils: Callable[[], None]
) -> list[Arm]:
    """So many that have begun to store."""
    place = stack.enter_context(folder())
    file, _ = stack.enter_context(plant(place, 1, 20))
    interval = "20ms" if count == 1 else "50ms"
    arms = []
    for n in range(count):
        proxy = WireProxy(postgres.conninfo)
        stack.callback(proxy.close)
        schema = stack.enter_context(schema_in(postgres.conninfo, f"s{n}"))
        limits = ("--interval", interval, "--drain", f"{DRAIN_S}s")
        words = run_words(file, schema, place / f"spool-{n}", *limits, conninfo=proxy.conninfo)
        arms.append(Arm(schema, proxy, stack.enter_context(logging(words, place / f"log-{n}", *spoils))))
    stack.callback(lambda: [_thaw(felt) for arm in arms for felt in arm.proxy.suffered])  # or no server ends
    until(lambda: all(stored(arm.schema) for arm in arms), "the first scans")
    return arms


def inflict(what: str, damage: Damage, proxies: list[WireProxy], postgres: EmbeddedPostgres) -> int:
    """Until all harm is done and survived; returns how often the postmaster was killed."""
    postmasters, thawed = 0, set[int]()
    suffered: list[Suffered] = []
    last, end = 0, math.inf
    while (
        not damage.is_over
        or any(proxy.is_suffering for proxy in proxies)
        or (what == "freeze" and len(thawed) < len(suffered))
    ):
        time.sleep(0.05)
        suffered = [felt for proxy in proxies for felt in proxy.suffered]
        if len(suffered) > last:
            last, end = len(suffered), time.monotonic() + HOPELESS_S
        if time.monotonic() > end:
            raise TimeoutError(f"a logger stores nothing any more after {suffered[-1].harm}")
        if what == "freeze":
            _thaw_due(suffered, thawed)
        if what == "kill" and len(suffered) // POSTMASTER_EVERY > postmasters:
            with suppress(OSError, ValueError, IndexError):
                os.kill(postgres.postmaster_pid, signal.SIGKILL)
                postmasters += 1
            _revive(postgres)
    return postmasters


def _thaw_due(suffered: list[Suffered], thawed: set[int]) -> None:
    for n, felt in enumerate(suffered):
        if n not in thawed and time.monotonic() > felt.at + (HOLDING_S if may_hold(felt) else FREE_S):
            _thaw(felt)
            thawed.add(n)


def _thaw(felt: Suffered) -> None:
    if felt.harm.what == "freeze":
        with suppress(ProcessLookupError):
            os.kill(felt.backend, signal.SIGCONT)


def _revive(postgres: EmbeddedPostgres) -> None:
    """Start the server again; it waits until what the dead one left has ended."""
    end = time.monotonic() + 30
    while True:
        try:
            with EmbeddedPostgres(postgres.folder, postgres._settings):
                psycopg.connect(postgres.conninfo, connect_timeout=2).close()  # one just killed looks alive
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


def report(what: str, planned: Counter[str], arms: list[Arm], postmasters: int) -> None:
    suffered = [felt for arm in arms for felt in arm.proxy.suffered]
    for point, count in sorted(planned.items()):
        landed = [felt for felt in suffered if felt.harm.point == point]
        figure(f"landed: {what} {point}", len(landed), "times", f"= {count}", len(landed) == count)
        for bound in sorted({bound_s(felt) for felt in landed}):
            took = max(felt.took_s for felt in landed if bound_s(felt) == bound)
            figure("  most until a transaction was stored again", took, "s", f"<= {bound:g}", took <= bound)
    if what == "kill":
        report_kills(planned.total(), suffered, arms[0].schema, postmasters)
    for arm in arms:
        none("left in the spool", arm.logger.figures["spooled"], "scans")
        retries = arm.logger.figures["retries"]
        figure("retries", sum(retries.values()), str(retries)[:60])
        judge(arm.schema)


def may_hold(felt: Suffered) -> bool:
    """Whether a frozen backend may hold the stream's row: then nobody stores before it goes on."""
    return felt.harm.what == "freeze" and (felt.harm.point == "after" or felt.is_end)


def bound_s(felt: Suffered) -> float:
    """From the harm to the next transaction that is stored; a row may be held until its backend goes on."""
    return DEADLINE_S + GRACE_S + (HOLDING_S - DEADLINE_S if may_hold(felt) else 0.0)


def report_kills(count: int, suffered: list[Suffered], schema: Schema, postmasters: int) -> None:
    figure("landed: kill -9 of the postmaster", postmasters, "times")
    at_commit = [felt for felt in suffered if not felt.answered]
    ids = [t.bytes for (t,) in schema.rows("SELECT transaction_id FROM logging_transactions")]
    had = sum(any(each in felt.request for each in ids) for felt in at_commit)
    most = min(20, count // 5)
    figure("errors at COMMIT", len(at_commit), "", f">= {most}", len(at_commit) >= most)
    figure("of which had committed", had, "", f">= {most // 4}", had >= most // 4)


def control_of_deadline(what: str) -> None:
    """A logger without a deadline of its own: it stores nothing more within the bound."""
    with ExitStack() as stack:
        postgres = stack.enter_context(server())
        (arm,) = loggers(stack, postgres, 1, waits_for_ever)
        harms = [Harm("after" if what == "hole" else "before", what, STALLED_S)]
        arm.proxy.choose = lambda: harms.pop() if harms else None
        (felt,) = until(lambda: arm.proxy.suffered, "a commit")
        bound = bound_s(felt)
        with suppress(TimeoutError):
            until(lambda: not arm.proxy.is_suffering, "a transaction", felt.at + bound - time.monotonic())
        stores = not arm.proxy.is_suffering
        figure(f"control: stored within {bound:g} s without a deadline", int(stores), "", "= 0", not stores)
        _thaw(felt)


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
    else:
        control_of_deadline(options.harm)
    finish()


if __name__ == "__main__":
    main()
