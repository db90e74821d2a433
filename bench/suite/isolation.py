"""Part isolation: readers beside writers never see two tables disagree, and the control shows they could."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from psycopg import sql

from bench.analysis.finding import Finding
from bench.analysis.statistics import wilson
from bench.analysis.verdict import judge_zero
from bench.arms.spec import parse_arm
from bench.load.arms import spawn_worker, workers_alive
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import not_measured
from bench.suite.context import Suite
from bench.suite.crowd import DISJOINT, CrowdSettings, CrowdTotal, crowd_configs
from bench.suite.crowds import Crowd
from bench.suite.plan import SuitePlan
from bench.suite.readers import CONTROL, Looks, ReaderSettings, read_beside, readers_ready

NAME = "isolation"
TITLE = "readers beside writers: do they ever see half a transaction?"

_LEAD_S = 0.3
"""Readers connect meanwhile."""
_COLUMNS = ("repository", "reads by", "looks", "states seen", "disagreed", "share [95 %]", "for example")
_NOTE = (
    "A look asks stream, ledger, history, process rows and current values for the newest scan of a device. "
    "From one snapshot they must agree. The control asks in two statements and lets a writer commit in "
    "between: it must disagree, or nobody could have seen a disagreement."
)


def planned_seconds(plan: SuitePlan) -> float:
    return 2 * (plan.isolation.seconds + 2.2) + 1


def run(bench: Suite, section: Section) -> None:
    """Both arms; raises DatabaseError."""
    plan = bench.plan.isolation
    title = f"{plan.readers} readers beside {plan.writers} writers, {plan.seconds:g} s"
    section.tables.append(Table(title, _COLUMNS, note=_NOTE))
    for letter, arm in bench.letters:
        if parse_arm(arm).is_ours:
            _run_arm(bench, section, letter, arm)
        else:
            why = "it keeps tables of its own, and only their owner knows what must agree in them"
            not_measured(section, f"isolation of {arm}", why)
        bench.say("readers beside writers", planned_seconds(bench.plan) / 2)


def _run_arm(bench: Suite, section: Section, letter: str, arm: str) -> None:
    plan, parameters = bench.plan.isolation, bench.plan.parameters
    configs = crowd_configs(parameters, plan.writers)
    with ExitStack() as stack:
        schema = stack.enter_context(bench.schema(configs, arm, NAME))
        writing, reading = (stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(2))
        crowd = Crowd([writing], CrowdSettings(bench.conninfo, schema, arm, parameters, plan.writers))
        crowd.prepare(DISJOINT)
        settings = ReaderSettings(
            bench.conninfo,
            schema,
            tuple((config.device.device_id, n) for n, config in enumerate(configs) if n),
            parameters,
            _keeps_current(bench, schema),
            plan.readers,
            plan.seconds,
        )
        with workers_alive():
            reading.submit(readers_ready).result()
        at_ns = time.perf_counter_ns() + round(_LEAD_S * 1e9)
        with ThreadPoolExecutor(1) as aside:
            writes = aside.submit(crowd.go, DISJOINT, plan.seconds + 2 * _LEAD_S)
            with workers_alive():
                found = reading.submit(read_beside, settings, at_ns).result()
            total = writes.result()
        crowd.close()
        _show(section, arm, found, total)
        bench.verified(section, letter, schema, crowd.rows)


def _keeps_current(bench: Suite, schema: str) -> bool:
    """Whether the first transactions have moved current values."""
    table = sql.Identifier(schema, "component_parameters")
    query = sql.SQL("SELECT bool_or(last_attempt_scan > 0) FROM {}").format(table)
    row = bench.monitor.execute(query).fetchone()
    return bool(row and row[0])


def _show(section: Section, arm: str, found: dict[str, Looks], total: CrowdTotal) -> None:
    section.figures[arm] = {"writers": total.to_json()}
    honest = Looks()
    for way, looks in found.items():
        low, high = wilson(looks.disagreed, looks.looks)
        share = f"{looks.disagreed / max(1, looks.looks):.2%} [{low:.2%}, {high:.2%}]"
        counts = (f"{looks.looks:,}", f"{looks.scans:,}", f"{looks.disagreed:,}")
        section.tables[0].rows.append((arm, way, *counts, share, looks.examples[0] if looks.examples else ""))
        section.figures[arm][way] = {
            "looks": looks.looks,
            "states_seen": looks.scans,
            "disagreed": looks.disagreed,
            "examples": list(looks.examples),
        }
        if way != CONTROL:
            honest.add(looks)
    control_fired = found[CONTROL].disagreed > 0
    checked = honest.looks if control_fired else 0  # without it nobody knows that a look can fail
    judgement = judge_zero(f"half transactions seen of {arm}", honest.disagreed, checked)
    section.judgements.append(judgement)
    if not control_fired:
        section.figures[arm]["doubt"] = "the control saw no disagreement either: too few looks or writers"
    at = {"repository": arm, "what": "half transactions seen by readers"}
    bound = honest.looks * wilson(honest.disagreed, honest.looks)[1]
    section.findings.append(
        Finding("violations", honest.disagreed, honest.disagreed, bound, "looks", NAME, at, judgement.outcome)
    )
