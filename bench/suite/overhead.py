"""Part overhead: what a third table costs, and what one statement saves over several."""

from __future__ import annotations

from contextlib import ExitStack

from bench.analysis.statistics import paired_impact
from bench.load.machine import machine
from bench.load.work import device_id_of
from bench.report.table import Table
from bench.section import Section
from bench.suite.context import Suite
from bench.suite.plan import SuitePlan
from bench.suite.strategy_slots import StrategyRun, StrategySlots, of_arm, run_strategies
from bench.suite.task import task_worker

NAME = "overhead"
TITLE = "transaction overhead: two tables against three, one statement against several"

_TWO_ONE, _THREE_ONE = "baseline", "synchronizing"
_TWO_SEVERAL, _THREE_SEVERAL = "strategy:two_tables_several", "strategy:several_statements"
_THREE_TRIPS = "strategy:round_trips"
_ARMS = {
    _TWO_ONE: "two tables, one statement",
    _TWO_SEVERAL: "two tables, several statements in one go",
    _THREE_ONE: "three tables, one statement",
    _THREE_SEVERAL: "three tables, several statements in one go",
    _THREE_TRIPS: "three tables, each statement a round trip",
}
_CONTRASTS = (
    ("a third table, in one statement", _TWO_ONE, _THREE_ONE),
    ("a third table, by several statements", _TWO_SEVERAL, _THREE_SEVERAL),
    ("several statements instead of one, two tables", _TWO_ONE, _TWO_SEVERAL),
    ("several statements instead of one, three tables", _THREE_ONE, _THREE_SEVERAL),
    ("a round trip each instead of one, three tables", _THREE_ONE, _THREE_TRIPS),
)
_PREPARING_S = 3.0


def planned_seconds(plan: SuitePlan) -> float:
    return _PREPARING_S + plan.overhead.pairs * len(_ARMS) * plan.overhead.slot_s + 2.0


def run(bench: Suite, section: Section) -> None:
    """Rounds of all five in one process; each contrast is paired within its round."""
    mine, parameters = bench.plan.overhead, bench.plan.parameters
    configs = [machine(parameters, device_id_of(parameters))]
    with ExitStack() as stack:
        schemas = {arm: stack.enter_context(bench.schema(configs, arm, "overhead")) for arm in _ARMS}
        worker = stack.enter_context(task_worker())
        bench.say("overhead: preparing", _PREPARING_S)
        asked = StrategySlots(bench.conninfo, schemas, parameters, mine.slot_s, mine.pairs, bench.seed)
        done = worker.run(run_strategies, asked)
        bench.say("overhead", mine.pairs * len(_ARMS) * mine.slot_s)
        _take(section, parameters, done)
        for arm, schema in schemas.items():
            bench.verified(section, _ARMS[arm], schema, done.stored[arm] * parameters)
        bench.say("overhead: verify", 2.0)


def _take(section: Section, parameters: int, done: StrategyRun) -> None:
    """The transaction times, and what each step from one way to another costs."""
    times = {arm: [slot.mean_us for slot in of_arm(done.slots, arm)] for arm in _ARMS}
    section.figures["transaction_us"] = {_ARMS[arm]: slots for arm, slots in times.items()}
    means = Table(
        f"A transaction of {parameters} parameters",
        ["way", "mean time [µs]", "transactions/s"],
        [
            [
                words,
                f"{sum(times[arm]) / len(times[arm]):,.0f}",
                f"{1e6 * len(times[arm]) / sum(times[arm]):,.0f}",
            ]
            for arm, words in _ARMS.items()
        ],
        "One connection as fast as it goes, every commit waits for the disk. The tables are history and "
        "process rows, and the current values as the third; stream and ledger are in all.",
    )
    steps = Table(
        "What each step costs a transaction",
        ["step", "change of its time", "95 % interval", "seen from"],
        note="Paired within each round of slots; a few rounds give wide intervals. Exploratory: not judged.",
    )
    contrasts = {}
    for words, before, after in _CONTRASTS:
        impact = paired_impact(times[before], times[after])
        contrasts[words] = impact.to_json()
        steps.rows.append(
            [
                words,
                f"{impact.effect:+.1%}",
                f"{impact.low:+.1%} to {impact.high:+.1%}",
                f"{impact.detectable:.1%}",
            ]
        )
    section.figures["contrasts"] = contrasts
    section.tables += [means, steps]
