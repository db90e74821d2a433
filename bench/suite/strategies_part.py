"""Part strategies: what updating the current values costs, each way, at each size of scan."""

from __future__ import annotations

from contextlib import ExitStack

from bench.analysis.finding import Finding
from bench.analysis.statistics import mean_interval
from bench.load.machine import machine
from bench.load.workload import device_id_of
from bench.oracle.verify import verify
from bench.report.table import Table
from bench.section import Section
from bench.strategies import BREAKS_I2, UPDATES
from bench.suite.context import Suite
from bench.suite.plan import SuitePlan
from bench.suite.strategy_slots import StrategyRun, StrategySlots, of_arm, run_strategies
from bench.suite.task import task_worker
from logger.database import connect

NAME = "strategies"
TITLE = "bulk update efficiency: the update of current values, each way, by parameters of a scan"

BASELINE = "baseline"
_PRODUCT = "synchronizing"
_ASYNCHRONOUS = "+synchronous_commit=off"
"""A commit's wait for the disk is the same for all: it would hide what an update costs by its scatter."""
_PREPARING_S = 0.7
"""Of a size: scans made beforehand, statements prepared."""


def arms() -> list[str]:
    """Specs in the table's order: nothing updated, the product's one statement, the strategies."""
    return [BASELINE, _PRODUCT, *(f"strategy:{name}" for name in UPDATES)]


def planned_seconds(plan: SuitePlan) -> float:
    mine = plan.strategies
    a_size = _PREPARING_S + mine.slots * len(arms()) * mine.slot_s
    return 4.0 + len(mine.parameters) * a_size


def run(bench: Suite, section: Section) -> None:
    """Fill the section size by size. Raises DatabaseError, PlcsimError."""
    mine = bench.plan.strategies
    configs = [machine(n, device_id_of(n)) for n in mine.parameters]
    rows = dict.fromkeys(arms(), 0)
    with ExitStack() as stack:
        schemas = {arm: stack.enter_context(bench.schema(configs, arm, "strategy")) for arm in arms()}
        worker = stack.enter_context(task_worker())
        bench.say("strategies: preparing", 2.0)
        tables = _update_table(), _values_table()
        for parameters in mine.parameters:
            asked = StrategySlots(
                bench.conninfo,
                schemas,
                parameters,
                mine.slot_s,
                mine.slots,
                bench.seed + parameters,
                _ASYNCHRONOUS,
            )
            done = worker.run(run_strategies, asked)
            for arm, stored in done.stored.items():
                rows[arm] += stored * parameters
            _take(section, parameters, done, tables)
            if not section.tables:
                section.tables += tables
            bench.say("strategies", _PREPARING_S + mine.slots * len(arms()) * mine.slot_s)
        for arm, schema in schemas.items():
            _check(bench, section, arm, schema, rows[arm])
        bench.say("strategies: verify", 2.0)


def _take(section: Section, parameters: int, done: StrategyRun, tables: tuple[Table, Table]) -> None:
    """Figures, findings and a row of both tables for one size."""
    before = of_arm(done.slots, BASELINE)
    figures = section.figures.setdefault("by_parameters", {}).setdefault(str(parameters), {})
    updates, values = [f"{parameters:,}"], [f"{parameters:,}"]
    for arm in arms():
        slots = of_arm(done.slots, arm)
        whole, whole_low, whole_high = mean_interval([slot.mean_us for slot in slots])
        name = arm.removeprefix("strategy:")
        figures[name] = {
            "transaction_us": whole,
            "transaction_low_us": whole_low,
            "transaction_high_us": whole_high,
            "transactions": sum(slot.transactions for slot in slots),
            "slots_mean_us": [round(slot.mean_us, 1) for slot in slots],
        }
        values.append(f"{1e6 * parameters / whole:,.0f}")
        if arm == BASELINE:
            continue
        update, low, high = mean_interval(
            [slot.mean_us - base.mean_us for slot, base in zip(slots, before, strict=True)]
        )
        figures[name] |= {"update_us": update, "update_low_us": low, "update_high_us": high}
        updates.append(f"{update:,.0f} ± {high - update:,.0f}")
        if name not in BREAKS_I2:  # does less than is asked for: it must not be recommended
            at = {"strategy": name, "parameters": parameters}
            cell = f"{NAME}, {parameters} parameters, {name}"
            section.findings.append(Finding("strategy_us", update, low, high, "µs", cell, at))
    tables[0].rows.append(updates)
    tables[1].rows.append(values)


def _update_table() -> Table:
    names = [arm.removeprefix("strategy:") for arm in arms() if arm != BASELINE]
    return Table(
        "What the update of current values takes of a transaction [µs]",
        ["parameters", *names],
        note="A transaction's time less the baseline's in the same round; ± is half of its 95 % interval "
        "over rounds. One connection, one scan a transaction, synchronous_commit off: a commit's wait for "
        "the disk is the same for all and would hide the difference. synchronizing is the product, all in "
        "one statement. skip_unchanged does less: scan and updated_at no longer say when a value was last "
        "read (I2), so it is never recommended.",
    )


def _values_table() -> Table:
    names = [arm.removeprefix("strategy:") for arm in arms()]
    return Table("Values stored a second, the same transactions", ["parameters", *names])


def _check(bench: Suite, section: Section, arm: str, schema: str, rows: int) -> None:
    """The oracle, and of a strategy that breaks I2 on purpose what is left of it."""
    name = arm.removeprefix("strategy:")
    if name not in BREAKS_I2:
        bench.verified(section, name, schema, rows)
        return
    with connect(bench.conninfo, schema) as connection:
        verification = verify(connection)
        wrong = connection.execute(_WRONG_VALUES).fetchone()
    assert wrong is not None
    kept = {check: one for check, one in verification.checks.items() if check != "I2"}
    section.figures[f"{name}_wrong_values"] = wrong[0]
    section.figures[f"{name}_i2_violations_by_design"] = verification.checks["I2"].violations
    if wrong[0]:
        section.invalid.append(f"{name}: {wrong[0]} current values are not the newest in history")
    if verification.rows != rows:
        section.invalid.append(f"{name}: {rows:,} rows were sent, the database holds {verification.rows:,}")
    section.invalid += [f"{name}: {one.invariant} is violated" for one in kept.values() if one.violations]


_WRONG_VALUES = """
WITH newest AS (
    SELECT DISTINCT ON (device_id, parameter_id) device_id, parameter_id, value
    FROM parameter_value_history ORDER BY device_id, parameter_id, scan DESC
)
SELECT count(*) FROM component_parameters c JOIN newest n USING (device_id, parameter_id)
WHERE n.value IS DISTINCT FROM c.current_value"""
