"""Scenario: faults of the database, the line, the PLC and the logger while the schedule goes on."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress

from bench.section import Section
from bench.stress.context import Stress, not_measured
from bench.stress.ordeal import Fault, Ordeal, Step
from bench.stress.plan import StressPlan
from bench.stress.recovery_times import STEADY_S
from bench.stress.rig import Rig, rig
from bench.stress.server import NotMeasured, Server

NAME = "recovery"
TITLE = "how long until all is as before, after each of many faults; and whether a scan was lost"

_SLOW_LINE_S = 0.02
"""Added to every piece of data, both ways."""
_AROUND_S = 3.6
"""Seeing that it has recovered."""
_PREPARE_S = 10.0
"""Starting all of it, and the oracle at the end."""


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.recovery
    arms = 2 if mine.both_arms else 1
    faults = len(list(every_fault(mine.fault_s, mine.interval_s)))
    each_s = 0.6 * mine.fault_s + max(0.0, mine.before_s - STEADY_S) + _AROUND_S
    return arms * (_PREPARE_S + mine.repeats * faults * each_s)


def run(bench: Stress, section: Section) -> None:
    """Each fault on each arm, in an order that the seed draws. Raises PlcsimError."""
    plan = bench.plan.recovery
    arms = bench.distinct_arms if plan.both_arms else bench.distinct_arms[-1:]
    for arm in arms:
        faults = list(every_fault(plan.fault_s, plan.interval_s)) * plan.repeats
        random.Random(bench.seed).shuffle(faults)
        with (
            bench.server() as server,
            rig(server, arm, bench.plan.parameters, plan.plcs, plan.interval_s) as made,
        ):
            ordeal = Ordeal(bench, section, made, plan, arm)
            ordeal.start()
            ordeal.suffer(_possible(faults, server, section))
            ordeal.finish()


def _possible(faults: list[Fault], server: Server, section: Section) -> list[Fault]:
    """Without those that harm a server which is not ours."""
    try:
        server.own  # noqa: B018 - raises
    except NotMeasured as exc:
        for name in NEEDS_OWN_SERVER:
            not_measured(section, name, str(exc))
        return [fault for fault in faults if fault.name not in NEEDS_OWN_SERVER]
    return faults


NEEDS_OWN_SERVER = (
    "backend killed (-9)", "server restarted (fast)", "server restarted (immediate)", "server killed (-9)",
)  # fmt: skip


def every_fault(fault_s: float, interval_s: float) -> Iterator[Fault]:
    """All faults; those that do not end by themselves last `fault_s`."""
    yield from _of_server()
    yield from _of_line(fault_s)
    yield from _of_plc(fault_s, interval_s)
    yield Fault("logger killed (-9)", lambda rig: rig.logger.kill(), lambda rig: rig.logger.start())


def _of_server() -> Iterator[Fault]:
    yield Fault("backend ended (pg_terminate_backend)", _terminate_backends)
    yield Fault("backend killed (-9)", _kill_backends)
    yield Fault(
        "server restarted (fast)",
        lambda rig: rig.server.own.stop("fast"),
        lambda rig: rig.server.own.start(),
    )
    yield Fault(
        "server restarted (immediate)",
        lambda rig: rig.server.own.stop("immediate"),
        lambda rig: rig.server.own.start(),
    )
    yield Fault(
        "server killed (-9)",
        lambda rig: rig.server.own.kill(),
        lambda rig: rig.server.own.start(),
    )


def _of_line(fault_s: float) -> Iterator[Fault]:
    def mend(rig: Rig) -> None:
        rig.line.mend()

    yield Fault("line to the database cut", lambda rig: rig.line.cut(), mend, fault_s)
    yield Fault("line to the database stalled", lambda rig: rig.line.stall(), mend, fault_s)
    yield Fault(
        f"line to the database slow (+{1000 * _SLOW_LINE_S:g} ms each way)",
        lambda rig: rig.line.slow(_SLOW_LINE_S),
        mend,
        fault_s,
    )


def _of_plc(fault_s: float, interval_s: float) -> Iterator[Fault]:
    def each_line(harm: str) -> Step:
        return lambda rig: [getattr(line, harm)() for line in rig.plc_lines]

    def each_plc(what: str) -> Step:
        return lambda rig: [getattr(plc, what)() for plc in rig.plcs]

    def slow(rig: Rig) -> None:
        for plc in rig.plcs:
            plc.add_fault(kind="delay", seconds=2 * interval_s)

    clear = each_plc("clear_faults")
    yield Fault("lines to the PLCs cut", each_line("cut"), each_line("mend"), fault_s)
    yield Fault("lines to the PLCs stalled", each_line("stall"), each_line("mend"), fault_s)
    yield Fault("PLCs without power, restarted", each_plc("cut_power"), each_plc("start"))
    yield Fault(f"PLCs slow (+{2000 * interval_s:g} ms a reply)", slow, clear, fault_s)
    yield Fault("wrong replies of the PLCs", _spoil_replies, clear, fault_s)


def _spoil_replies(rig: Rig) -> None:
    for plc in rig.plcs:
        for kind in ("wrong_transaction_id", "wrong_unit_id", "wrong_function", "short_reply", "exception"):
            plc.add_fault(kind=kind, probability=0.2)


def _terminate_backends(rig: Rig) -> None:
    with rig.server.connect() as connection:
        for pid in rig.backends():
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))


def _kill_backends(rig: Rig) -> None:
    """The server takes a killed process for a crash and restarts itself."""
    for pid in rig.backends():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
