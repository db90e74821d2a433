"""Slots in the order A B B A, B A A B, …: paired, and each watched for what disturbs it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from psycopg import Connection

from bench.load.arms import Arm
from bench.load.work import SlotRequest, SlotResult
from bench.measuring.resources import ServerCounters, server_counters

_GROWTH_BYTES = 8 * 8192
"""component_parameters may grow so much in a slot without being called disturbed."""
_LEAST_HOT = 0.9
_LEAST_CARRIED = 0.9
"""Of the planned rate, or the slot tells of a queue that grows and not of latency."""


@dataclass(frozen=True)
class Slot:
    """One slot as it ran."""

    arm: str
    pair: int
    position: int
    """How many slots ran before it; a number that is missing was a disturbed slot's."""
    result: SlotResult
    wal_bytes: int
    hot_ratio: float | None
    """Of the updates of component_parameters; None where there were none."""
    disturbed: tuple[str, ...]
    """Why it cannot be trusted; empty if it can."""


@dataclass(frozen=True)
class Pair:
    """A slot of each arm, run one right after the other."""

    a: Slot
    b: Slot

    @property
    def disturbed(self) -> tuple[str, ...]:
        return self.a.disturbed + self.b.disturbed


def slot_order(pairs: int, seed: int) -> list[tuple[str, str]]:
    """Arms of each pair in order: A B, B A, then B A, A B, and so on; the seed draws who begins.

    ABBA followed by BAAB cancels linear and quadratic drift of the machine's speed.
    """
    first = random.Random(seed).choice("AB")
    second = "B" if first == "A" else "A"
    pattern = [(first, second), (second, first), (second, first), (first, second)]
    return [pattern[i % 4] for i in range(pairs)]


def run_slot_watched(
    arm: Arm, pair: int, position: int, request: SlotRequest, monitor: Connection[Any], schemas: list[str]
) -> Slot:
    """Run a slot between two looks at the server's counters."""
    before = [server_counters(monitor, schema) for schema in schemas]
    result = arm.run(request)
    after = [server_counters(monitor, schema) for schema in schemas]
    mine = schemas.index(arm.schema)
    updates = after[mine].updates - before[mine].updates
    hot = (after[mine].hot_updates - before[mine].hot_updates) / updates if updates > 0 else None
    return Slot(
        arm.name,
        pair,
        position,
        result,
        after[mine].wal_bytes - before[mine].wal_bytes,
        hot,
        tuple(_disturbances(before, after, mine, hot, arm.expects_hot) + _shortfall(result, request)),
    )


def run_pairs(
    arms: tuple[Arm, Arm],
    request: SlotRequest,
    order: list[tuple[str, str]],
    monitor: Connection[Any],
    on_slot: Callable[[], None],
    most_repeats: int = 2,
) -> list[Pair]:
    """Run all pairs; a disturbed one is run again at the end, `most_repeats` of them at most."""
    by_name = {arm.name: arm for arm in arms}
    schemas = [arm.schema for arm in arms]
    positions = count()

    def run_pair(index: int, names: tuple[str, str]) -> Pair:
        slots = {}
        for name in names:
            slots[name] = run_slot_watched(by_name[name], index, next(positions), request, monitor, schemas)
            on_slot()
        return Pair(slots["A"], slots["B"])

    pairs = [run_pair(index, names) for index, names in enumerate(order)]
    disturbed = [index for index, pair in enumerate(pairs) if pair.disturbed]
    for index in disturbed[:most_repeats]:
        pairs[index] = run_pair(index, order[index])
    return pairs


def _disturbances(
    before: list[ServerCounters],
    after: list[ServerCounters],
    mine: int,
    hot: float | None,
    expects_hot: bool = True,
) -> list[str]:
    """What somebody else did meanwhile. What an arm's own settings do to its table is none of these."""
    found = []
    checkpoints = {
        (counters[mine].checkpoints, counters[mine].checkpoint_lsn) for counters in (before, after)
    }
    if len(checkpoints) > 1:
        found.append("a checkpoint ran")
    if any(a.vacuums != b.vacuums for a, b in zip(after, before, strict=True)):
        found.append("a vacuum or analyze ran")
    if expects_hot and after[mine].current_bytes - before[mine].current_bytes > _GROWTH_BYTES:
        found.append("component_parameters grew: does an old snapshot keep its row versions alive?")
    if expects_hot and hot is not None and hot < _LEAST_HOT:
        found.append(f"only {hot:.0%} of the updates were HOT")
    return found


def _shortfall(result: SlotResult, request: SlotRequest) -> list[str]:
    """Work that was not done, or a rate that was not carried: latency is compared at one that both carry.

    Work done a little late is no disturbance: the responses count from the plan.
    """
    loops = (result.saturated, result.paced)
    found = ["no transaction was stored" for loop in loops if loop and not loop.transactions]
    if result.paced and result.paced.skipped:
        found.append("the planned rate was not reached")
    elif result.paced and request.paced_s < _LEAST_CARRIED * result.paced.seconds:
        share = request.paced_s / result.paced.seconds
        found.append(f"only {share:.0%} of the planned rate was carried: the machine slowed down")
    return found
