"""`plcbench quick`: what does synchronization cost? An answer in about a minute, with its doubts.

1. Warm up both arms; from what they reach, choose one rate that both can carry.
2. The comparison: pairs of slots, each with a part at saturation and a part at the fixed rate.
3. Parameters per scan from 10 to 200, and three writers on the same rows, briefly.
4. Verify everything that was stored; then judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import InsufficientPrivilege

from bench.arms import Arm, bench_server, growing_wal, two_arms
from bench.comparison import compare
from bench.concurrency import Concurrency, concurrency_check
from bench.emulators import emulators
from bench.environment import environment
from bench.invariants import Verification
from bench.quick_result import BATCH_SIZES, PAIR_S, BatchSize, QuickResult, QuickSettings, quick_json
from bench.slots import Pair, run_pairs, slot_order
from bench.statistics import paired_impact
from bench.verdict import overall
from bench.verify import verify
from bench.workload import SlotRequest, WorkerSettings
from logger.database import connect

RAMP_S = 0.1
SHARE_OF_CAPACITY = 0.6
"""The fixed rate, as a share of what the slower arm reaches at saturation."""
WARM_UP_S = 1.0
_ANALYZED = ("component_parameters", "logging_streams", "parameter_value_history", "process_data_points")
_BATCH_SLOT_S = 0.5
_BATCH_PAIRS = 2
_WRITERS_S = 1.0


Progress = Callable[[str, float], None]
"""Called with what is being done and how many seconds of the plan that was."""


def run_quick(settings: QuickSettings, progress: Progress = lambda what, seconds: None) -> QuickResult:
    """Run the whole comparison. Raises DatabaseError, EmbeddedError."""
    started = time.time()
    with (
        bench_server(settings.url) as conninfo,
        connect(conninfo) as monitor,
        emulators(settings.machines if settings.plc else (), settings.running) as plc,
    ):
        where = environment(monitor)
        worker = WorkerSettings(conninfo, "", "", settings.machines, settings.running, plc=plc or None)
        with (
            growing_wal(conninfo, _wal_segments(settings)) as grown,
            two_arms(monitor, (settings.a, settings.b), worker) as arms,
        ):
            grown.result()
            rate = _warm_up(arms, settings, monitor)
            progress("warm-up", 2 * WARM_UP_S)
            pairs = _compare(arms, settings, rate, monitor, progress)
            batch_sizes = _batch_sizes(arms, settings, monitor, progress) if settings.extras else []
            verifications = {arm.name: _verified(conninfo, arm, progress) for arm in arms}
            invalid = _doubts(arms, pairs, verifications)
        concurrency = _concurrency(settings, conninfo, monitor, progress) if settings.extras else {}
    comparison = compare(pairs, settings.targets, settings.seed)
    invalid += _violations(verifications, concurrency)
    outcome = overall(comparison.judgements, invalid)
    result = QuickResult(settings, comparison, batch_sizes, concurrency, verifications, invalid, outcome, {})
    result.json.update(quick_json(result, pairs, rate, where, started))
    return result


def planned_seconds(settings: QuickSettings) -> float:
    """About how long a run takes, in the units in which progress is reported."""
    extras = len(BATCH_SIZES) * 2 * _BATCH_PAIRS * (_BATCH_SLOT_S + RAMP_S) + 2 * (_WRITERS_S + 2)
    return 2 * WARM_UP_S + settings.pairs * PAIR_S + 2 * 3.0 + (extras if settings.extras else 0)


def _warm_up(arms: tuple[Arm, Arm], settings: QuickSettings, monitor: Connection[Any]) -> float:
    """Fill caches, give the planner statistics, leave no checkpoint due; returns the rate to pace at."""
    for arm in arms:
        for parameters in settings.machines:
            long = parameters == settings.parameters
            arm.run(SlotRequest(parameters, ramp_s=WARM_UP_S if long else 0.1))
    for arm in arms:
        for table in _ANALYZED:
            monitor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(arm.schema, table)))
    with suppress(InsufficientPrivilege):
        monitor.execute("CHECKPOINT")
    reached = []
    for arm in arms:
        warm = arm.run(SlotRequest(settings.parameters, saturated_s=WARM_UP_S / 2)).saturated
        assert warm is not None
        reached.append(warm.per_second)
    return max(1.0, SHARE_OF_CAPACITY * min(reached))


def _wal_segments(settings: QuickSettings) -> int:
    """Segments of 16 MB that the comparison will need: it writes 30 to 40 MB a second."""
    return 0 if settings.url else min(250, 20 + round(1.2 * settings.duration_s))


def _compare(
    arms: tuple[Arm, Arm], settings: QuickSettings, rate: float, monitor: Connection[Any], progress: Progress
) -> list[Pair]:
    part_s = (PAIR_S / 2 - RAMP_S) / 2
    request = SlotRequest(settings.parameters, RAMP_S, part_s, part_s, rate)
    order = slot_order(settings.pairs, settings.seed)
    return run_pairs(arms, request, order, monitor, lambda: progress("comparison", PAIR_S / 2))


def _batch_sizes(
    arms: tuple[Arm, Arm], settings: QuickSettings, monitor: Connection[Any], progress: Progress
) -> list[BatchSize]:
    found = []
    for parameters in BATCH_SIZES:
        request = SlotRequest(parameters, RAMP_S, saturated_s=_BATCH_SLOT_S)
        pairs = run_pairs(
            arms,
            request,
            slot_order(_BATCH_PAIRS, settings.seed + parameters),
            monitor,
            lambda: progress("parameters per scan", _BATCH_SLOT_S + RAMP_S),
            most_repeats=0,
        )
        a = [_per_second(pair.a.result.saturated) for pair in pairs]
        b = [_per_second(pair.b.result.saturated) for pair in pairs]
        found.append(
            BatchSize(
                parameters,
                parameters * sum(a) / len(a),
                parameters * sum(b) / len(b),
                -paired_impact(a, b).effect,
            )
        )
    return found


def _concurrency(
    settings: QuickSettings, conninfo: str, monitor: Connection[Any], progress: Progress
) -> dict[str, Concurrency]:
    checks = {}
    for name in dict.fromkeys((settings.a, settings.b)):
        checks[name] = concurrency_check(
            monitor, conninfo, name, settings.parameters, settings.running, _WRITERS_S
        )
        progress("concurrent writers", _WRITERS_S + 2)
    return checks


def _verified(conninfo: str, arm: Arm, progress: Progress) -> Verification:
    with connect(conninfo, arm.schema) as connection:
        verification = verify(connection)
    progress("verify", 3.0)
    return verification


def _violations(verifications: dict[str, Verification], concurrency: dict[str, Concurrency]) -> list[str]:
    found = [
        f"arm {name}: {verification.violations} violations of the invariants"
        for name, verification in verifications.items()
        if verification.violations
    ]
    return found + [
        f"{check.writers} concurrent writers through {name}: {check.verification.violations} violations"
        for name, check in concurrency.items()
        if check.verification.violations
    ]


def _per_second(loop: Any) -> float:
    return float(loop.per_second)


def _doubts(arms: tuple[Arm, Arm], pairs: list[Pair], verifications: dict[str, Verification]) -> list[str]:
    """Why the run may not be believed: disturbed slots, or a database that holds other rows than we sent."""
    doubts = [
        f"pair {index + 1} was disturbed: {'; '.join(pair.disturbed)}"
        for index, pair in enumerate(pairs)
        if pair.disturbed
    ]
    for arm in arms:
        found = verifications[arm.name].rows
        if found != arm.rows:
            doubts.append(f"arm {arm.name} stored {arm.rows:,} history rows, the database holds {found:,}")
    return doubts
