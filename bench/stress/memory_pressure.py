"""Scenario: a logger, and its server process, with hardly any memory or descriptors left."""

from __future__ import annotations

from collections.abc import Iterator

from bench.section import Section
from bench.stress.context import Stress, not_measured
from bench.stress.ordeal import Fault, Ordeal
from bench.stress.plan import StressPlan
from bench.stress.plan_faults import MemoryPressurePlan
from bench.stress.process_limits import give_back, limit_address_space, limit_descriptors
from bench.stress.rig import Rig, rig

NAME = "memory_pressure"
TITLE = "what a logger does when memory or descriptors end, and whether it comes back by itself"

_OF_BACKEND = "server short of memory, every connection cut"
_BACKEND_BYTES = 1 << 20
"""So much may a new backend map beyond what the postmaster has: its caches alone take several times that."""
_AROUND_S = 6.0
_PREPARE_S = 10.0


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.memory_pressure
    faults = len(mine.address_space_mb) + 2
    return _PREPARE_S + faults * (mine.seconds + _AROUND_S)


def run(bench: Stress, section: Section) -> None:
    """Every pressure on B's logger, one after the other. Raises PlcsimError."""
    plan, arm = bench.plan.memory_pressure, bench.distinct_arms[-1]
    with (
        bench.server() as server,
        rig(server, arm, bench.plan.parameters, plan.plcs, plan.interval_s) as made,
    ):
        ordeal = Ordeal(bench, section, made, plan, arm)
        ordeal.start()
        faults = list(_faults(plan))
        if not server.is_own:
            not_measured(section, _OF_BACKEND, "needs a server of our own, on this machine")
            faults = [fault for fault in faults if fault.name != _OF_BACKEND]
        ordeal.suffer(faults)
        ordeal.finish()


def _faults(plan: MemoryPressurePlan) -> Iterator[Fault]:
    """The logger's limits hold until it has recovered or died: it must work off the backlog with them."""
    for megabytes in sorted(plan.address_space_mb, reverse=True):
        yield Fault(
            f"logger with {megabytes} MB to spare, its database away",
            lambda rig, more=megabytes << 20: _starve(rig, more),  # type: ignore[misc]
            lambda rig: rig.line.mend(),
            plan.seconds,
            clean_up=_relieve,
        )
    yield Fault(
        "logger without a descriptor to spare, every connection cut",
        lambda rig: _disconnect(rig, plan.descriptors),
        _relieve,
        plan.seconds,
    )
    yield Fault(_OF_BACKEND, _starve_backends, _feed_backends, plan.seconds)


def _starve(rig: Rig, more_bytes: int) -> None:
    limit_address_space(rig.logger.pid, more_bytes)
    rig.line.cut()


def _relieve(rig: Rig) -> None:
    if rig.logger.is_alive:
        give_back(rig.logger.pid)


def _disconnect(rig: Rig, numbers: int) -> None:
    """Every new connection needs a descriptor, which the logger does not get any more."""
    limit_descriptors(rig.logger.pid, numbers)
    for line in (rig.line, *rig.plc_lines):
        line.cut()
    for line in (rig.line, *rig.plc_lines):
        line.mend()


def _starve_backends(rig: Rig) -> None:
    """New backends inherit the limit of the postmaster; the logger needs new ones."""
    limit_address_space(rig.server.own.postmaster_pid, _BACKEND_BYTES)
    rig.line.cut()
    rig.line.mend()


def _feed_backends(rig: Rig) -> None:
    for pid in (rig.server.own.postmaster_pid, *rig.backends()):
        give_back(pid)
