"""Two live arms, warmed up, and their common rate: what parts that compare pairs of slots begin with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from psycopg import sql

from bench.arms.settings import tables_in
from bench.load.arms import Arm, two_arms
from bench.load.slots import Pair, run_pairs, slot_order
from bench.load.work import Loop, SlotRequest, WorkerSettings
from bench.section import Section
from bench.suite.context import Suite
from bench.suite.histograms import Histograms

RAMP_S = 0.1
_ANALYZED = ("component_parameters", "logging_streams", "parameter_value_history", "process_data_points")


@dataclass
class PairedArms:
    """Arms A and B of a comparison, and what their slots have given."""

    bench: Suite
    arms: tuple[Arm, Arm]
    parameters: int
    ends: dict[int, float] = field(default_factory=dict)
    """When each slot ended, seconds since 1970, by its position."""

    def warm_up(self, seconds: float) -> float:
        """Fill caches, give the planner statistics, leave no checkpoint due.

        Returns what the slower arm reaches at saturation, transactions a second.
        """
        for arm in self.arms:
            arm.run(SlotRequest(self.parameters, ramp_s=seconds))
        for arm in self.arms:
            for table in _ANALYZED if arm.is_ours else tables_in(self.bench.monitor, arm.schema):
                self.bench.monitor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(arm.schema, table)))
        if self.bench.own_server:
            self.bench.monitor.execute("CHECKPOINT")
        reached = [arm.run(SlotRequest(self.parameters, 0.0, seconds)).saturated for arm in self.arms]
        return min(loop.per_second for loop in reached if loop)

    def run(self, request: SlotRequest, pairs: int, seed: int, on_slot: Callable[[], None]) -> list[Pair]:
        """Run pairs of slots; see bench.load.slots.run_pairs."""
        self.ends.clear()

        def ended() -> None:
            self.ends[len(self.ends)] = time.time()
            on_slot()

        return run_pairs(self.arms, request, slot_order(pairs, seed), self.bench.monitor, ended)

    def keep_histograms(self, pairs: Sequence[Pair], into: Histograms, prefix: str = "") -> None:
        """Keep every slot's histograms as intervals of a log.

        Responses, and service at saturation, by the second; service and wait at the fixed rate by the
        slot, whose start is exact to about 0.1 s.
        """
        for slot in sorted((s for pair in pairs for s in (pair.a, pair.b)), key=lambda s: s.position):
            end = self.ends.get(slot.position, 0.0)
            paced, saturated = slot.result.paced, slot.result.saturated
            arm = f"{prefix}{slot.arm}"
            for second, latencies in saturated.by_second if saturated else ():
                into.add(f"{arm}-saturated-service", second, 1.0, latencies)
            if paced is None:
                continue
            for second, latencies in paced.by_second:
                into.add(f"{arm}-response", second, 1.0, latencies)
            for kind in ("service", "wait"):
                into.add(f"{arm}-{kind}", end - paced.seconds, paced.seconds, getattr(paced, kind))

    def check(self, section: Section, pairs: Sequence[Pair], name: str = "") -> None:
        """Let the oracle look at both schemas, and note every pair that was disturbed."""
        for number, pair in enumerate(pairs, 1):
            if pair.disturbed:
                said = "; ".join(dict.fromkeys(pair.disturbed))
                section.invalid.append(f"{name}pair {number} was disturbed: {said}")
        self.verify(section, name)

    def verify(self, section: Section, name: str = "") -> None:
        """What the oracle, or the arm's own checks, say of both schemas."""
        for arm in self.arms:
            if arm.is_ours:
                self.bench.verified(section, f"{name}{arm.name}", arm.schema, arm.rows)
            else:
                section.verifications[f"{name}{arm.name}"] = arm.verify(self.bench.conninfo)


@contextmanager
def paired_arms(bench: Suite, arms: tuple[str, str], parameters: int) -> Iterator[PairedArms]:
    """Both arms, each with a schema and a live worker; gone after."""
    settings = WorkerSettings(bench.conninfo, "", "", (parameters,), True)
    with two_arms(bench.monitor, arms, settings) as both:
        yield PairedArms(bench, both, parameters)


def loops(pairs: Sequence[Pair], arm: str, kind: str) -> list[Loop]:
    """The saturated or paced loops of an arm, one a slot."""
    slots = [pair.a if arm == "A" else pair.b for pair in pairs]
    found = [getattr(slot.result, kind) for slot in slots]
    return [loop for loop in found if loop is not None]
