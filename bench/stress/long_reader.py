"""Scenario: somebody keeps an old snapshot while logging goes on: the largest real risk of synchronizing.

While it is open no version of the rows with the current values can be pruned: the table grows, updates are
HOT no more, and each has to pass more and more dead versions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from psycopg import Connection, sql

from bench.analysis.finding import Finding
from bench.analysis.statistics import paired_impact
from bench.analysis.verdict import judge_least
from bench.load.arms import Arm, two_arms
from bench.load.slots import slot_order
from bench.load.work import Loop
from bench.load.workload import SlotRequest, WorkerSettings
from bench.measuring.resources import server_counters
from bench.oracle.verify import verify
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress
from bench.stress.plan import StressPlan
from bench.stress.readers import READERS

NAME = "long_reader"
TITLE = "what is left of the throughput while a dump, a query or an idle transaction keeps an old snapshot"

_WARM_UP_S = 0.5
_AROUND_S = 0.8
_PREPARE_S = 6.0
_PAGE_BYTES = 8192


@dataclass(frozen=True)
class Trial:
    """One reader, in whose time one arm stored as fast as it went."""

    reader: str
    repository: str
    seconds: float
    before_per_s: float
    during_per_s: float
    worst_per_s: float
    """In the worst whole second."""
    after_per_s: float
    """Right after the reader has gone."""
    vacuumed_per_s: float
    """After a VACUUM."""
    pages_before: int
    """Of component_parameters."""
    pages_during: int
    """At the end of it."""
    hot_before: float
    """Share of the updates of component_parameters that were HOT; NaN where there were none."""
    hot_during: float

    @property
    def left(self) -> float:
        """The share of the throughput before that was left."""
        return self.during_per_s / self.before_per_s if self.before_per_s else math.nan


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.long_reader
    each = sum(mine.snapshots_s) + len(mine.snapshots_s) * (mine.before_s + 2 * mine.after_s + _AROUND_S)
    return _PREPARE_S + 2 * len(READERS) * mine.repeats * each


def run(bench: Stress, section: Section) -> None:
    """Every reader with every duration, on both arms. Raises PlcsimError."""
    plan, parameters = bench.plan.long_reader, bench.plan.parameters
    trials: list[Trial] = []
    section.figures["trials"] = []
    table = _table()
    section.tables.append(table)
    with bench.server() as server, server.connect() as monitor:
        settings = WorkerSettings(server.conninfo, "", "", (parameters,), running=True)
        with two_arms(monitor, bench.arms, settings) as arms:
            monitor.execute("SET statement_timeout = 0; SET lock_timeout = '30s'")
            by_name = {arm.name: arm for arm in arms}
            for arm in arms:
                arm.run(SlotRequest(parameters, ramp_s=_WARM_UP_S))
            todo = [(s, reader) for _ in range(plan.repeats) for s in plan.snapshots_s for reader in READERS]
            for (seconds, reader), order in zip(todo, slot_order(len(todo), bench.seed), strict=True):
                for name in order:
                    trials.append(_trial(bench, server.conninfo, monitor, by_name[name], reader, seconds))
                    section.figures["trials"].append({**asdict(trials[-1]), "left_share": trials[-1].left})
                    table.rows.append(_row(trials[-1]))
            for arm in arms:
                with server.connect(arm.schema) as connection:
                    section.verifications[arm.name] = verify(connection)
    _report(bench, section, trials)


def _trial(
    bench: Stress, conninfo: str, monitor: Connection[Any], arm: Arm, reader: str, seconds: float
) -> Trial:
    plan = bench.plan.long_reader

    def stored(length_s: float, what: str) -> Loop:
        loop = arm.run(SlotRequest(bench.plan.parameters, ramp_s=0.1, saturated_s=length_s)).saturated
        assert loop is not None
        bench.say(f"{reader}, {seconds:g} s: {what}", length_s + _AROUND_S / 4)
        return loop

    counters = [server_counters(monitor, arm.schema)]
    before = stored(plan.before_s, "before")
    counters.append(server_counters(monitor, arm.schema))
    with READERS[reader](conninfo, arm.schema):
        during = stored(seconds, "during")
        counters.append(server_counters(monitor, arm.schema))
    after = stored(plan.after_s, "after")
    _vacuum(monitor, arm.schema, "")
    vacuumed = stored(plan.after_s, "after VACUUM")
    _vacuum(monitor, arm.schema, "FULL")  # the next one begins with a table as small as this one did
    start, mid, end = counters
    seen = [
        latencies.count for _, latencies in during.by_second[1:-1]
    ]  # the first and the last are not whole
    return Trial(
        reader,
        arm.repository,
        seconds,
        before.per_second,
        during.per_second,
        float(min(seen, default=math.nan)),
        after.per_second,
        vacuumed.per_second,
        mid.current_bytes // _PAGE_BYTES,
        end.current_bytes // _PAGE_BYTES,
        _ratio(mid.hot_updates - start.hot_updates, mid.updates - start.updates),
        _ratio(end.hot_updates - mid.hot_updates, end.updates - mid.updates),
    )


def _vacuum(monitor: Connection[Any], schema: str, option: Literal["", "FULL"]) -> None:
    table = sql.Identifier(schema, "component_parameters")
    monitor.execute(sql.SQL("VACUUM {} {}").format(sql.SQL(option), table))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole > 0 else math.nan


def _report(bench: Stress, section: Section, trials: Sequence[Trial]) -> None:
    """The judged figure of an arm and duration is the mean over all readers: they do the same thing."""
    durations = sorted({trial.seconds for trial in trials})
    for repository in bench.distinct_arms:
        for seconds in durations:
            mine = [t for t in trials if (t.repository, t.seconds) == (repository, seconds)]
            change = paired_impact([t.before_per_s for t in mine], [t.during_per_s for t in mine])
            left, low, high = 1 + change.effect, 1 + change.low, 1 + change.high
            judgement = judge_least(
                f"throughput left beside a reader of {seconds:g} s ({repository})",
                left, low, high, bench.targets.long_reader_left,
            )  # fmt: skip
            is_judged = repository == bench.arms[1] and seconds == durations[-1]
            if is_judged:
                section.judgements.append(judgement)
            section.findings.append(
                Finding(
                    "long_reader_throughput", left, low, high, "", f"{NAME}: {repository}, {seconds:g} s",
                    {"seconds": seconds, "reader": "all", "repository": repository},
                    judgement.outcome if is_judged else None,
                )
            )  # fmt: skip
    for trial in trials:
        at = {"seconds": trial.seconds, "reader": trial.reader, "repository": trial.repository}
        cell = f"{NAME}: {trial.repository}, {trial.reader}, {trial.seconds:g} s"
        section.findings.append(
            Finding("long_reader_throughput", trial.left, math.nan, math.nan, "", cell, at)
        )


def _table() -> Table:
    return Table(
        f"{NAME}: one connection as fast as it goes beside a reader",
        (
            "reader", "repository", "before tx/s", "during", "left", "worst 1 s", "after", "after VACUUM",
            "pages", "pages at the end", "HOT before", "HOT during",
        ),
        note="Pages are those of component_parameters. At saturation: a plant that stores a scan a second "
        "makes as many row versions in a thousand times the time. On a server of our own no autovacuum runs "
        "in between; what it could do is what VACUUM shows.",
    )  # fmt: skip


def _row(t: Trial) -> tuple[str, ...]:
    return (
        f"{t.reader}, {t.seconds:g} s",
        t.repository,
        *(f"{each:,.0f}" for each in (t.before_per_s, t.during_per_s)),
        f"{t.left:.0%}",
        *(_number(each) for each in (t.worst_per_s, t.after_per_s, t.vacuumed_per_s)),
        f"{t.pages_before:,}",
        f"{t.pages_during:,}",
        *("-" if math.isnan(each) else f"{each:.0%}" for each in (t.hot_before, t.hot_during)),
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f}"
