"""Slots of many arms in turn at one size of scan; runs in a worker process of its own.

All arms share one process, its scans and one server, each with a schema and a connection of its own.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.arms.spec import parse_arm
from bench.load.machine import machine
from bench.load.scan_source import PrecomputedScans
from bench.load.workload import device_id_of
from logger.database import connect
from logger.repositories import Stream
from logger.scan import ScanLayout, StreamKey, batch_of

_WARM_UP = 3
"""Transactions of each strategy before the first slot: its statements are prepared then."""
_ANALYZE = "ANALYZE component_parameters, logging_streams, parameter_value_history, process_data_points"
"""After the warm-up: without statistics the planner may join by looking at every row for every row."""
_FEWEST = 3
"""Transactions of a slot, however long they take."""


@dataclass(frozen=True)
class StrategySlots:
    """What to run."""

    conninfo: str
    schemas: dict[str, str]
    """Of each arm, by its spec; arms of ours only."""
    parameters: int
    slot_s: float
    slots: int
    seed: int
    settings: str = ""
    """Of all arms, as in a spec: `+synchronous_commit=off`."""


@dataclass(frozen=True)
class StrategySlot:
    """What one slot did."""

    arm: str
    round: int
    transactions: int
    seconds: float

    @property
    def mean_us(self) -> float:
        return 1e6 * self.seconds / self.transactions


@dataclass(frozen=True)
class StrategyRun:
    """All slots at one size, and how many transactions each arm stored altogether."""

    slots: list[StrategySlot]
    stored: dict[str, int]


def run_strategies(asked: StrategySlots) -> StrategyRun:
    """Run the slots in rounds; in each, every arm once in an order drawn anew."""
    config = machine(asked.parameters, device_id_of(asked.parameters))
    layout, source = ScanLayout(config), PrecomputedScans(config)
    order = random.Random(asked.seed)
    with ExitStack() as stack:
        streams: dict[str, Stream] = {}
        connections = {}
        for arm, schema in asked.schemas.items():
            connection = connections[arm] = stack.enter_context(connect(asked.conninfo, schema))
            spec = parse_arm(arm + asked.settings)
            spec.settings.configure(connection)
            repository = spec.repository_class()(connection)
            streams[arm] = repository.open(StreamKey(layout.device_id), layout.recipe)

        def store_next(arm: str) -> None:
            scan = source.next(streams[arm].head.last_scan + 1)
            streams[arm].store(batch_of([scan], layout))

        for arm, connection in connections.items():
            for _ in range(_WARM_UP):
                store_next(arm)
            connection.execute(_ANALYZE)
            store_next(arm)
        slots = []
        for number in range(asked.slots):
            arms = list(streams)
            order.shuffle(arms)
            slots += [_slot(arm, number, asked.slot_s, store_next) for arm in arms]
        return StrategyRun(slots, {arm: stream.head.last_scan for arm, stream in streams.items()})


def _slot(arm: str, number: int, seconds: float, store_next: Callable[[str], None]) -> StrategySlot:
    stored, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds or stored < _FEWEST:
        store_next(arm)
        stored += 1
    return StrategySlot(arm, number, stored, took)


def of_arm(slots: Sequence[StrategySlot], arm: str) -> list[StrategySlot]:
    """An arm's slots by their round."""
    return sorted((slot for slot in slots if slot.arm == arm), key=lambda slot: slot.round)
