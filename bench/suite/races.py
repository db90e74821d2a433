"""Part races: everybody on one device at once, and afterwards the oracle finds every row where it belongs.

Writers by processes, writers that share a repository and a pool, two who fight for one stream, and an
operator who voids what was just stored: all on the same rows, at the same time.
"""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.finding import Finding
from bench.analysis.verdict import judge_success, judge_zero
from bench.arms.spec import parse_arm
from bench.load.arms import spawn_worker, workers_alive
from bench.load.failures import DATABASE_ERRORS
from bench.oracle.invariants import Verification
from bench.report.table import Table
from bench.section import Section
from bench.suite.checked import not_measured
from bench.suite.context import Suite
from bench.suite.crowd import SAME, CrowdSettings, CrowdTotal, crowd_configs
from bench.suite.crowds import Crowd
from bench.suite.duel import Duel, duel, duel_ready
from bench.suite.plan import SuitePlan
from bench.suite.words import failures, milliseconds, percent
from logger.database import connect
from logger.database.compensation import void

NAME = "races"
TITLE = "writers, rivals for one stream and an operator on the same rows at once, then the oracle"

_LEAD_S = 0.3
"""The rivals and the operator connect meanwhile."""
_VOID_EVERY_S = 0.1
_NEWEST = """
SELECT transaction_id FROM logging_transactions l WHERE history_rows > 0
  AND NOT EXISTS (SELECT FROM compensations c WHERE c.transaction_id = l.transaction_id)
ORDER BY logged_at DESC LIMIT 1"""
_COLUMNS = ("repository", "who", "tried", "stored", "p50 ms", "p95 ms", "failures")
_NOTE = (
    "Rivals claim one stream from each other: who has lost it is refused, which is no failure. The operator "
    "voids the newest transaction ten times a second. The oracle checks I1 to I6 afterwards."
)


def planned_seconds(plan: SuitePlan) -> float:
    return 2 * (plan.races.seconds + 3.5)


def run(bench: Suite, section: Section) -> None:
    """Both arms; raises DatabaseError."""
    plan = bench.plan.races
    title = f"{plan.writers} writers, 2 rivals and an operator on one device, {plan.seconds:g} s"
    section.tables.append(Table(title, _COLUMNS, note=_NOTE))
    for letter, arm in bench.letters:
        if parse_arm(arm).is_ours:
            _run_arm(bench, section, letter, arm)
        else:
            why = "the oracle does not know what is right in tables of its own"
            not_measured(section, f"races of {arm}", why)
        bench.say("everybody on one device", planned_seconds(bench.plan) / 2)


@dataclass
class Operator:
    """What the operator did."""

    voided: int = 0
    fell_back: int = 0
    """Current values that fell back to an older one."""
    failed: int = 0


def _run_arm(bench: Suite, section: Section, letter: str, arm: str) -> None:
    plan, parameters = bench.plan.races, bench.plan.parameters
    by_processes, by_threads = plan.writers - plan.writers // 2, plan.writers // 2
    with ExitStack() as stack:
        schema = stack.enter_context(bench.schema(crowd_configs(parameters, 0), arm, NAME))
        first, second, third = (stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(3))
        settings = CrowdSettings(bench.conninfo, schema, arm, parameters, by_processes)
        pooled = replace(settings, writers=by_threads, first=by_processes + 1, pool=max(1, by_threads // 2))
        crowds = [Crowd([first], settings), Crowd([second], pooled)]
        for crowd in crowds:
            crowd.prepare(SAME)
        with workers_alive():
            third.submit(duel_ready).result()
        at_ns = time.perf_counter_ns() + round(_LEAD_S * 1e9)
        with ThreadPoolExecutor(3) as aside, workers_alive():
            rivals = third.submit(duel, settings, plan.writers + 1, at_ns, plan.seconds)
            goes = [aside.submit(crowd.go, SAME, _LEAD_S + plan.seconds) for crowd in crowds]
            voids = aside.submit(_operate, bench.conninfo, schema, at_ns, plan.seconds)
            totals, rival, operator = [go.result() for go in goes], rivals.result(), voids.result()
        for crowd in crowds:
            crowd.close()
        rows = sum(crowd.rows for crowd in crowds) + parameters * rival.stored
        verification = bench.verified(section, letter, schema, rows)
        _show(section, arm, totals, rival, operator)
        _judge(bench, section, arm, totals, verification)


def _operate(conninfo: str, schema: str, at_ns: int, seconds: float) -> Operator:
    """Void the newest transaction, again and again."""
    done = Operator()
    with connect(conninfo, schema) as connection:
        while (now := time.perf_counter_ns()) < at_ns + seconds * 1e9:
            time.sleep(max(_VOID_EVERY_S, (at_ns - now) / 1e9))
            row = connection.execute(_NEWEST).fetchone()
            try:
                report = void(connection, row[0], "races of the suite", "plcbench") if row else None
            except DATABASE_ERRORS:
                done.failed += 1
                continue
            done.voided += report is not None
            done.fell_back += report.fell_back if report else 0
    return done


def _show(section: Section, arm: str, totals: list[CrowdTotal], rival: Duel, operator: Operator) -> None:
    ways = ("writers, a connection each", "writers, one repository and pool")
    figures: dict[str, Any] = {}
    for way, total in zip(ways, totals, strict=True):
        response = total.merged("response")
        times = (milliseconds(response.percentile_us(50)), milliseconds(response.percentile_us(95)))
        counts = (f"{total.tried:,}", percent(total.stored / max(1, total.tried), 2))
        section.tables[0].rows.append((arm, way, *counts, *times, failures(total.failures)))
        figures[way] = total.to_json()
    tried = rival.stored + rival.refused + sum(rival.failures.values())
    claims = f"{rival.stored:,}, {rival.claims:,} claims"
    rest = f"refused {rival.refused:,}; {failures(rival.failures)}"
    section.tables[0].rows.append((arm, "rivals for one stream", f"{tried:,}", claims, "", "", rest))
    voided = f"{operator.voided:,} voided"
    failed = f"lost every try {operator.failed:,}" if operator.failed else "none"
    of_operator = (arm, "operator", f"{operator.voided + operator.failed:,}", voided, "", "", failed)
    section.tables[0].rows.append(of_operator)
    section.figures[arm] = figures | {
        "rivals": rival.to_json(),
        "operator": {"voided": operator.voided, "fell_back": operator.fell_back, "failed": operator.failed},
    }


def _judge(
    bench: Suite, section: Section, arm: str, totals: list[CrowdTotal], verification: Verification
) -> None:
    stored, tried = sum(total.stored for total in totals), sum(total.tried for total in totals)
    success = judge_success([(stored, tried)], bench.targets.success)
    found = judge_zero(f"violations after races of {arm}", verification.violations, verification.rows)
    section.judgements += [replace(success, metric=f"success of {arm} in races"), found]
    at = {"repository": arm, "what": "invariants after overlapping writers"}
    count = verification.violations
    section.findings.append(Finding("violations", count, count, count, "rows", NAME, at, found.outcome))
