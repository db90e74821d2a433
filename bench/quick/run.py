"""`plcbench quick`: what does synchronization cost? An answer in about a minute, with its doubts.

1. Warm up both arms; from what they reach, choose one rate that both can carry.
2. The comparison: pairs of slots, each with a part at saturation and a part at the fixed rate.
3. Parameters per scan from 10 to 200, and three writers on the same rows, briefly.
4. Verify everything that was stored; then judge.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from psycopg import Connection, sql

from bench.analysis.comparison import compare
from bench.analysis.statistics import paired_impact
from bench.analysis.verdict import overall
from bench.arms.settings import tables_in
from bench.load.arms import Arm, PrepareTables, spawn_worker, two_arms, workers_alive
from bench.load.concurrency import WRITERS, Concurrency, concurrency_check
from bench.load.emulators import emulators
from bench.load.server import bench_server, growing_wal
from bench.load.slots import Pair, run_pairs, slot_order
from bench.load.work import SlotRequest, WorkerSettings
from bench.measuring.environment import environment
from bench.oracle.invariants import Verification
from bench.quick.doubts import client_limits, clipped, doubts, not_checked, own_bloat, violations
from bench.quick.result import BATCH_SIZES, PAIR_S, BatchSize, QuickResult, QuickSettings, quick_json
from logger.database import connect, mapped_errors
from logger.errors import DatabaseRefused

RAMP_S = 0.1
SHARE_OF_CAPACITY = 0.6
"""The fixed rate, as a share of what the slower arm reaches at saturation."""
WARM_UP_S = 1.0
_ANALYZED = ("component_parameters", "logging_streams", "parameter_value_history", "process_data_points")
_BATCH_SLOT_S = 0.2
_BATCH_RAMP_S = 0.05
_BATCH_PAIRS = 2
_WRITERS_S = 0.6


Progress = Callable[[str, float], None]
"""Called with what is being done and how many seconds of the plan that was."""


def run_quick(settings: QuickSettings, progress: Progress = lambda what, seconds: None) -> QuickResult:
    """Run the whole comparison. Raises DatabaseError, EmbeddedError, InputError for an arm that is wrong."""
    started = time.time()
    notes: list[str] = []

    def clone(connection: Connection[Any], schema: str) -> None:
        if settings.clones.tables:
            notes.extend(note for note in settings.clones.make(connection, schema) if note not in notes)

    with (
        bench_server(settings.url) as conninfo,
        connect(conninfo) as monitor,
        emulators(settings.machines if settings.plc else (), settings.running) as plc,
    ):
        settings.clones.check(monitor)
        where = environment(monitor)
        worker = WorkerSettings(conninfo, "", "", settings.machines, settings.running, plc=plc or None)
        with (
            growing_wal(conninfo, _wal_segments(settings)) as grown,
            two_arms(monitor, (settings.a, settings.b), worker, clone) as arms,
        ):
            grown.result()
            rate = _warm_up(arms, settings, monitor)
            progress("warm-up", 2 * WARM_UP_S)
            pairs = _compare(arms, settings, rate, monitor, progress)
            batch_sizes = _batch_sizes(arms, settings, monitor, progress) if settings.extras else []
            verifications = _verified(conninfo, arms)
            progress("verify", 6.0)
            invalid = doubts(arms, pairs, verifications)
            notes += not_checked(arms, verifications) + own_bloat(arms, pairs) + client_limits(pairs)
        concurrency = _concurrency(settings, conninfo, monitor, clone, progress) if settings.extras else {}
    comparison = compare(pairs, settings.targets, settings.seed)
    invalid += violations(verifications, concurrency)
    notes += clipped(comparison)
    outcome = overall(comparison.judgements, invalid)
    result = QuickResult(
        settings, comparison, batch_sizes, concurrency, verifications, invalid, outcome, {}, notes
    )
    result.json.update(quick_json(result, pairs, rate, where, started))
    return result


def planned_seconds(settings: QuickSettings) -> float:
    """About how long a run takes, in the units in which progress is reported."""
    extras = len(BATCH_SIZES) * 2 * _BATCH_PAIRS * (_BATCH_SLOT_S + _BATCH_RAMP_S) + 2 * (_WRITERS_S + 2)
    return 2 * WARM_UP_S + settings.pairs * PAIR_S + 2 * 3.0 + (extras if settings.extras else 0)


def _warm_up(arms: tuple[Arm, Arm], settings: QuickSettings, monitor: Connection[Any]) -> float:
    """Fill caches, give the planner statistics, leave no checkpoint due; returns the rate to pace at."""
    for arm in arms:
        for parameters in settings.machines:
            long = parameters == settings.parameters
            arm.run(SlotRequest(parameters, ramp_s=WARM_UP_S if long else 0.1))
    for arm in arms:
        for table in _ANALYZED if arm.is_ours else tables_in(monitor, arm.schema):
            monitor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(arm.schema, table)))
    with suppress(DatabaseRefused), mapped_errors():  # not everybody may
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
        request = SlotRequest(parameters, _BATCH_RAMP_S, saturated_s=_BATCH_SLOT_S)
        pairs = run_pairs(
            arms,
            request,
            slot_order(_BATCH_PAIRS, settings.seed + parameters),
            monitor,
            lambda: progress("parameters per scan", _BATCH_SLOT_S + _BATCH_RAMP_S),
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
    settings: QuickSettings,
    conninfo: str,
    monitor: Connection[Any],
    prepare_tables: PrepareTables,
    progress: Progress,
) -> dict[str, Concurrency]:
    checks = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(spawn_worker(signal.SIGTERM)) for _ in range(WRITERS)]
        for name in dict.fromkeys((settings.a, settings.b)):
            checks[name] = concurrency_check(
                monitor,
                conninfo,
                name,
                settings.parameters,
                settings.running,
                _WRITERS_S,
                prepare_tables,
                workers,
            )
            progress("concurrent writers", _WRITERS_S + 2)
    return checks


def _verified(conninfo: str, arms: tuple[Arm, Arm]) -> dict[str, Verification]:
    """What the oracle says of each arm; both are checked at once."""
    with workers_alive():
        futures = {arm.name: arm.verifying(conninfo) for arm in arms}
        return {name: future.result() for name, future in futures.items()}


def _per_second(loop: Any) -> float:
    return float(loop.per_second)
