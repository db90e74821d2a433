"""Part compensation: failures after each step are undone and recorded, and every row can be traced."""

from __future__ import annotations

from contextlib import ExitStack

from bench.analysis.finding import Finding
from bench.analysis.verdict import judge_zero
from bench.arms.spec import parse_arm
from bench.report.table import Table
from bench.section import Section
from bench.suite.audit import Trace, trace
from bench.suite.checked import not_measured
from bench.suite.context import Suite
from bench.suite.crowd import crowd_configs
from bench.suite.failing_steps import STEPS, StepCase, fail_each_step
from bench.suite.failing_units import KILLED, REFUSED, FailingUnits, UnitCase
from bench.suite.plan import SuitePlan
from logger.database import connect

NAME = "compensation"
TITLE = "a failure after each step of a unit of work, and in each step of a transaction; the audit trace"

_UNIT = ("repository", "failure", "after step", "voided", "with reason", "failed ms", "done ms", "wrong")
_TRACE = ("repository", "table", "rows", "traced to the ledger", "back", "right")
_UNIT_NOTE = (
    "The unit is done twice while the cause stands, then once without it, then once more. Refused for good: "
    "what was committed is voided, with reason and name, and current values are what they were. Killed: what "
    "was committed stands, and doing the unit again finishes it. Times are of the call that failed, undoing "
    "included, and of the one that stored all."
)
_TRACE_NOTE = (
    "Back: ledger rows that have exactly their rows; current values that are among their transaction's rows."
)


def planned_seconds(plan: SuitePlan) -> float:
    return 2 * (2.0 + 0.35 * plan.compensation.transactions)


def run(bench: Suite, section: Section) -> None:
    """Both arms; raises DatabaseError."""
    transactions = bench.plan.compensation.transactions
    of_units = Table(f"A unit of {transactions} transactions that fails", _UNIT, note=_UNIT_NOTE)
    of_steps = Table("A transaction that fails in one step", ("repository", *STEPS))
    section.tables += [of_units, of_steps, Table("The audit trace", _TRACE, note=_TRACE_NOTE)]
    for letter, arm in bench.letters:
        if parse_arm(arm).is_ours:
            _run_arm(bench, section, letter, arm)
        else:
            why = "units of work and the ledger are of our own tables"
            not_measured(section, f"compensation of {arm}", why)
        bench.say("failures in every step", planned_seconds(bench.plan) / 2)


def _run_arm(bench: Suite, section: Section, letter: str, arm: str) -> None:
    parameters, transactions = bench.plan.parameters, bench.plan.compensation.transactions
    with ExitStack() as stack:
        schema = stack.enter_context(bench.schema(crowd_configs(parameters, 1), arm, NAME))
        owner, writing = (stack.enter_context(connect(bench.conninfo, schema)) for _ in range(2))
        repository = parse_arm(arm).open(writing)
        steps = fail_each_step(owner, repository, parameters, device=1)
        units = FailingUnits(owner, lambda: connect(bench.conninfo, schema), repository, parameters)
        cases = [
            units.fail(how, step, transactions) for how in (REFUSED, KILLED) for step in range(transactions)
        ]
        traces = trace(owner)
        rows = units.rows + parameters * (1 + len(steps))
        _show(section, arm, cases, steps, traces)
        _judge(section, arm, cases, steps, traces)
        bench.verified(section, letter, schema, rows)


def _show(
    section: Section, arm: str, cases: list[UnitCase], steps: list[StepCase], traces: list[Trace]
) -> None:
    of_units, of_steps, of_traces = section.tables
    for case in cases:
        counts = (str(case.step), str(case.undone), str(case.recorded))
        times = (f"{case.failed_ms:.1f}", f"{case.done_ms:.1f}")
        of_units.rows.append((arm, case.how, *counts, *times, "; ".join(case.wrong) or "nothing"))
    of_steps.rows.append((arm, *map(_said, steps)))
    for each in traces:
        traced = each.rows - each.orphans - each.strangers
        right = each.back - each.back_wrong
        figures = (f"{each.rows:,}", f"{traced:,}", f"{each.back:,}", f"{right:,}")
        of_traces.rows.append((arm, each.table, *figures))
    section.figures[arm] = {
        "units": [case.to_json() for case in cases],
        "steps": [step.to_json() for step in steps],
        "audit_trace": {each.table: each.to_json() for each in traces},
    }


def _said(step: StepCase) -> str:
    if not step.has_step:
        return "no such step"
    return "; ".join(step.wrong) or "nothing left"


def _judge(
    section: Section, arm: str, cases: list[UnitCase], steps: list[StepCase], traces: list[Trace]
) -> None:
    failed = sum(bool(case.wrong) for case in cases) + sum(bool(step.wrong) for step in steps)
    lost = sum(each.wrong for each in traces)
    section.judgements += [
        judge_zero(
            f"failures not undone by {arm}", failed, len(cases) + sum(step.has_step for step in steps)
        ),
        judge_zero(f"rows without a trace of {arm}", lost, sum(each.rows for each in traces)),
    ]
    for what, count in (("failures not undone", failed), ("rows without a trace", lost)):
        outcome = section.judgements[-2 if what.startswith("failures") else -1].outcome
        at = {"repository": arm, "what": what}
        section.findings.append(Finding("violations", count, count, count, "", NAME, at, outcome))
