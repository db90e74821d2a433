"""Part why: what a transaction is made of, by the server's counters and statement by statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.analysis.statistics import mean_interval
from bench.load.machine import machine
from bench.load.work import SlotRequest, device_id_of
from bench.report.table import Table
from bench.section import Section
from bench.suite.context import Suite
from bench.suite.paired import PairedArms, paired_arms
from bench.suite.plan import SuitePlan
from bench.suite.server_cost import ServerCost, server_cost
from bench.suite.split import PARTS, SplitRequest, split
from bench.suite.task import task_worker
from bench.suite.waits import Waits, watched_waits

NAME = "why"
TITLE = "why it costs: WAL, HOT, dead rows, waits, and each statement's share of a transaction"

_SLOT_S = 0.25
_A_SECOND = 700
"""Transactions that a connection stores at least, to plan by."""
_SPLIT_ARMS = {"two tables": "strategy:two_tables_several", "three tables": "strategy:several_statements"}


def planned_seconds(plan: SuitePlan) -> float:
    return 7.0 + 2 * 2.5 * plan.why.transactions / _A_SECOND


def run(bench: Suite, section: Section) -> None:
    """Counters of both arms at saturation, in turn; then transactions taken apart."""
    with paired_arms(bench, bench.arms, bench.plan.parameters) as paired:
        paired.warm_up(0.3)
        bench.say("why: warm-up", 4.0)
        counted = _counted(bench, paired)
        paired.verify(section)
    _take(section, bench, counted)
    bench.say("why: split", 1.0)
    _split(bench, section)
    bench.say("why: split", 2.0 + 2 * bench.plan.why.transactions / _A_SECOND)


def _counted(bench: Suite, paired: PairedArms) -> dict[str, tuple[ServerCost, int, Waits]]:
    """Of each arm: what the server's counters grew by, in how many transactions, and what it waited for."""
    counted = {}
    request = SlotRequest(bench.plan.parameters, 0.0, _SLOT_S)
    for arm in paired.arms:
        before, stored_before = server_cost(bench.monitor, arm.schema), arm.stored
        backends = arm.info.backends or (arm.info.backend_pid,)
        with watched_waits(bench.conninfo, backends) as waits:
            while arm.stored - stored_before < bench.plan.why.transactions:
                loop = arm.run(request).saturated
                if loop is None or not loop.transactions:
                    break
        after = server_cost(bench.monitor, arm.schema)
        counted[arm.name] = after.since(before), arm.stored - stored_before, waits
        bench.say(f"why: counters of {arm.name}", bench.plan.why.transactions / _A_SECOND)
    return counted


_ROWS = (
    ("WAL [B]", "wal_bytes", "{:,.0f}"),
    ("WAL records", "wal_records", "{:.1f}"),
    ("full-page images", "full_page_images", "{:.3f}"),
    ("rows inserted", "rows_inserted", "{:.1f}"),
    ("current values updated", "rows_updated", "{:.1f}"),
    ("of which HOT", "hot_share", "{:.2%}"),
    ("dead rows in current values, at the end", "dead_rows_now", "{:,.0f}"),
    ("size of current values, at the end [B]", "current_values_bytes", "{:,.0f}"),
)


def _take(section: Section, bench: Suite, counted: dict[str, tuple[ServerCost, int, Waits]]) -> None:
    figures: dict[str, dict[str, Any]] = {}
    for letter, (cost, transactions, waits) in counted.items():
        figures[letter] = {
            **cost.per_transaction(transactions),
            "waits_share": waits.shares,
            "lock_waits_share": waits.share_of("Lock"),
            "looks": waits.looks,
        }
    section.figures["counters"] = figures
    table = Table(
        f"What a transaction costs the server, {bench.plan.parameters} parameters",
        ["figure", "A", "B"],
        note="By the server's counters, one connection at saturation. WAL is counted for the whole server"
        + ("." if bench.own_server else ": of a server that others use, it holds their writes too.")
        + " A full-page image follows the first change of a page after a checkpoint: one came just before, "
        "so there are more than later on. Lock waits between connections: part scalability, same rows.",
    )
    for words, key, form in _ROWS:
        table.rows.append([words, *(_shown(form, figures[letter][key]) for letter in "AB")])
    table.rows.append(["time at work goes to", *(counted[letter][2].in_words(4) for letter in "AB")])
    section.tables.append(table)


def _shown(form: str, value: float) -> str:
    return "-" if value != value else form.format(value)


def _split(bench: Suite, section: Section) -> None:
    """The same rows by a statement for each table, each timed; rounds of both ways in turn."""
    parameters = bench.plan.parameters
    configs = [machine(parameters, device_id_of(parameters))]
    with (
        bench.schema(configs, name="split_two") as two,
        bench.schema(configs, name="split_three") as three,
        task_worker() as worker,
    ):
        schemas = dict(zip(_SPLIT_ARMS, (two, three), strict=True))
        asked = SplitRequest(
            bench.conninfo,
            {_SPLIT_ARMS[way]: schema for way, schema in schemas.items()},
            parameters,
            bench.plan.why.transactions,
        )
        times = worker.run(split, asked)
        for way, schema in schemas.items():
            stored = times[_SPLIT_ARMS[way]].stored
            bench.verified(section, f"split, {way}", schema, stored * parameters)
    table = Table(
        "Where the time of a transaction goes [µs]",
        ["step", *_SPLIT_ARMS],
        note="By a statement for each table, each sent when the one before was answered; the product sends "
        "one statement for all, which saves the round trips. ± is half of the 95 % interval of the mean over "
        "twenty stretches of the run. Times include what our side computes for the statement.",
    )
    figures: dict[str, Any] = {}
    for step in (*PARTS, "whole"):
        cells = []
        for way, spec in _SPLIT_ARMS.items():
            taken = times[spec].by_step.get(step, [])
            mean, low, high = mean_interval(_stretches(taken))
            figures.setdefault(way, {})[f"{step}_us"] = {"mean": mean, "low": low, "high": high}
            cells.append("-" if mean != mean else f"{mean:,.0f} ± {high - mean:,.0f}")
        table.rows.append([step, *cells])
    section.figures["split"] = figures
    section.tables.append(table)


def _stretches(values: Sequence[float], stretches: int = 20) -> list[float]:
    """Means of so many stretches: neighbours among transactions are too alike to count one by one."""
    size = max(1, len(values) // stretches)
    cut = [values[i : i + size] for i in range(0, len(values) - size + 1, size)]
    return [sum(each) / len(each) for each in cut]
