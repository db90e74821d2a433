"""Part deadlocks: the detector proves itself on writers without the device's lock, then judges both arms.

An update locks rows in its plan's order: by the keys that it was sent, or as they lie in the table. Here
they lie in the table the other way round, and every other writer has the other plan, as may be on any day.
Without the lock on the device's row that must deadlock, or the detector is worth nothing; with it, it must
not. Each statement sends its keys sorted, without the lock too: sorting alone is no cure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from bench.analysis.finding import Finding
from bench.analysis.statistics import wilson
from bench.analysis.verdict import judge_zero
from bench.load.failures import Failure
from bench.measuring.resources import server_counters
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import check
from bench.suite.context import Suite
from bench.suite.crowd import SAME, CrowdSettings, CrowdTotal, crowd_configs
from bench.suite.crowd_worker import APPLICATION
from bench.suite.crowds import Crowd, crowd_workers
from bench.suite.deadlock_watch import Deadlocks, DeadlockWatch, Waiter
from bench.suite.plan import SuitePlan
from bench.suite.words import failures
from logger.database import connect

NAME = "deadlocks"
TITLE = "writers of the same rows: without the device's lock they deadlock, with it they do not"

CONTROL = "synchronizing, without the device's lock"
_PROCESSES = 2
_TIMEOUT = "100ms"
"""A deadlock stands so long: time enough for several looks, and many deadlocks in little time."""
_CONTROL_S = 20.0
"""The control goes on so long until a deadlock was told and named: how soon they meet is the scheduler's
matter."""
_COUNT_S = 3.0
"""The server's count may come so much later."""
_SHOWN = 3

_NOTE = (
    "Each case runs by processes with a connection a writer and by threads that share a repository and a "
    f"pool. Told: errors 40P01 that clients got; server: pg_stat_database.deadlocks; named: cycles that were "
    f"seen standing, with statements and keys. deadlock_timeout is {_TIMEOUT} where it may be set. Per "
    "million: of transactions tried, 95 % Wilson interval."
)
_COLUMNS = ("case", "writers are", "tried", "stored", "told", "server", "named", "per million", "failures")
_NAMED = (
    *("case", "one waits for", "and holds", "the other waits for", "and holds"),
    *("statement of the one", "of the other"),
)


@dataclass(frozen=True)
class Case:
    """One set of writers."""

    name: str
    settings: CrowdSettings
    is_control: bool


@dataclass
class Seen:
    """What one case did, as the clients, the server and the watch have it."""

    warm: CrowdTotal
    """The first transactions, which count for the cross-check alone."""
    total: CrowdTotal
    watch: Deadlocks
    server: int = 0
    """The server's count, of the first transactions too."""

    @property
    def told(self) -> int:
        """Errors 40P01 that clients got, of the first transactions too."""
        return sum(each.failures.get(Failure.DEADLOCK.value, 0) for each in (self.warm, self.total))

    @property
    def tried(self) -> int:
        return self.warm.tried + self.total.tried

    def doubt(self, own_server: bool) -> str:
        """Why the counts cannot be right; empty if they agree. Others may deadlock on a server not ours."""
        if self.server < self.told or (own_server and self.server > self.told):
            return f"clients were told of {self.told} deadlocks, the server counts {self.server}"
        return ""


_REVERSED = (
    "CREATE INDEX plcbench_reversed ON component_parameters (device_id, parameter_id DESC)",
    "CLUSTER component_parameters USING plcbench_reversed",
    "DROP INDEX plcbench_reversed",
)


def planned_seconds(plan: SuitePlan) -> float:
    return 2 * 3 * (plan.deadlocks.seconds + 0.8) + 3


def run(bench: Suite, section: Section) -> None:
    """The control and both arms, by processes and by threads; raises DatabaseError."""
    plan = bench.plan.deadlocks
    title = f"{plan.writers} writers of the same {bench.plan.parameters} rows, {plan.seconds:g} s a case"
    table = Table(title, _COLUMNS, note=_NOTE)
    named = Table("Deadlocks while they stood", _NAMED)
    section.tables += [table, named]
    with crowd_workers(_PROCESSES) as workers:
        for letter, arm in (("control", "synchronizing"), *bench.letters):
            _run_arm(bench, section, workers, letter, arm)
            bench.say("writers of the same rows", planned_seconds(bench.plan) / 3)


def _run_arm(
    bench: Suite, section: Section, workers: Sequence[ProcessPoolExecutor], letter: str, arm: str
) -> None:
    is_control = letter == "control"
    name = CONTROL if is_control else arm
    parameters, writers = bench.plan.parameters, bench.plan.deadlocks.writers
    with bench.schema(crowd_configs(parameters, 0), arm, NAME) as schema:
        settings = CrowdSettings(
            bench.conninfo,
            schema,
            arm,
            parameters,
            writers,
            device_lock=not is_control,
            unlike_plans=True,
            deadlock_timeout=_TIMEOUT,
        )
        with connect(bench.conninfo, schema) as connection:
            for statement in _REVERSED:
                connection.execute(statement.encode())
        rows, all_seen = 0, []
        for way, mine in (("processes", settings), ("threads, one pool", replace(settings, pool=writers))):
            case = Case(name, mine, is_control)
            seen, stored = _run_case(bench, workers if way == "processes" else workers[:1], case)
            rows += stored
            all_seen.append(seen)
            _show(section, name, way, seen, bench.own_server)
        check(bench, section, letter, arm, schema, rows)
    _judge(section, name, is_control, all_seen, writers)


def _run_case(bench: Suite, workers: Sequence[ProcessPoolExecutor], case: Case) -> tuple[Seen, int]:
    """Run a case; the control until a deadlock was told and named, but not for ever."""
    before = server_counters(bench.monitor, case.settings.schema).deadlocks
    crowd, seconds = Crowd(workers, case.settings), bench.plan.deadlocks.seconds
    with connect(bench.conninfo) as connection:
        connection.execute("SET statement_timeout = 0")
        with DeadlockWatch(connection, case.settings.schema, APPLICATION) as watch:
            seen = Seen(crowd.prepare(SAME), crowd.go_in_bursts(SAME, seconds), watch)
            deadline = time.monotonic() + (_CONTROL_S if case.is_control else 0.0)
            while not (seen.told and watch.cycles) and time.monotonic() < deadline:
                seen.total.add(crowd.go_in_bursts(SAME, min(1.0, seconds)))
    crowd.close()  # what a session has counted, the server has when it ends
    deadline = time.monotonic() + _COUNT_S
    while True:
        seen.server = server_counters(bench.monitor, case.settings.schema).deadlocks - before
        if seen.server >= seen.told or time.monotonic() > deadline:
            return seen, crowd.rows
        time.sleep(0.05)


def _show(section: Section, name: str, way: str, seen: Seen, own_server: bool) -> None:
    total, key = seen.total, f"{name}, by {way}"
    low, high = (1e6 * share for share in wilson(seen.told, seen.tried))
    per_million = 1e6 * seen.told / seen.tried if seen.tried else float("nan")
    stored = seen.warm.stored + total.stored
    cells = (f"{seen.tried:,}", f"{stored:,}", f"{seen.told:,}", f"{seen.server:,}")
    rate = f"{per_million:,.0f} [{low:,.0f}, {high:,.0f}]"
    row = (name, way, *cells, f"{len(seen.watch.cycles):,}", rate, failures(total.failures))
    section.tables[0].rows.append(row)
    clearest = sorted(seen.watch.cycles, key=_unclear)[:_SHOWN]
    for cycle in clearest:
        first, second = cycle[0], cycle[1 % len(cycle)]
        of_both = (part for one in (first, second) for part in (one.key, one.holds_in_words))
        section.tables[1].rows.append((key, *of_both, _head(first), _head(second)))
    section.figures[key] = total.to_json() | {
        "deadlocks_told": seen.told,
        "deadlocks_server": seen.server,
        "deadlocks_per_million": per_million,
        "deadlocks_at": total.contexts,
        "cycles_named": len(seen.watch.cycles),
        "cycles": [[waiter.to_json() for waiter in cycle] for cycle in clearest],
        "looks": seen.watch.looks,
        "looks_with_waiting": seen.watch.waiting,
    }
    for doubt in (seen.doubt(own_server), seen.watch.error and f"the watch ended: {seen.watch.error}"):
        if doubt:
            section.invalid.append(f"{key}: {doubt}")


def _judge(section: Section, name: str, is_control: bool, all_seen: list[Seen], writers: int) -> None:
    told = sum(max(seen.told, seen.server) for seen in all_seen)
    tried = sum(seen.tried for seen in all_seen)
    if is_control:
        for way, seen in zip(("processes", "threads"), all_seen, strict=True):
            if not seen.told:
                section.invalid.append(
                    f"self-test by {way}: writers without the lock were told of no deadlock"
                )
            elif not seen.watch.cycles:
                section.invalid.append(f"self-test by {way}: no deadlock was seen while it stood")
        return
    section.judgements.append(judge_zero(f"deadlocks of {name}", told, tried))
    low, high = wilson(told, tried)
    at = {"repository": name, "writers": writers}
    outcome = section.judgements[-1].outcome
    cell = f"{NAME}: {writers} writers of one device"
    section.findings.append(
        Finding("deadlocks", told, low * tried, high * tried, "deadlocks", cell, at, outcome)
    )


def _unclear(cycle: Sequence[Waiter]) -> tuple[int, int]:
    """How little a cycle shows: rows that are not known, then sessions that are merely in the way."""
    return sum((not waiter.holds) + ("(" not in waiter.key) for waiter in cycle), len(cycle)


def _head(waiter: Waiter) -> str:
    return waiter.statement[:40] + ("…" if len(waiter.statement) > 40 else "")
