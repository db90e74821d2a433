"""Scenario: a disk whose fsync takes longer, below the spool and below the server's WAL.

The server's part is `commit_delay` with `commit_siblings = 0`: before it flushes the WAL of a commit the
server waits, holding the lock of the WAL as it does while a slow disk syncs. It goes up to 100 ms.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.analysis.finding import Finding
from bench.analysis.statistics import mean_interval, paired_impact
from bench.load.arms import Arm, two_arms
from bench.load.slots import slot_order
from bench.load.workload import SlotRequest, WorkerSettings
from bench.oracle.verify import verify
from bench.report.table import Table
from bench.section import Section
from bench.stress.context import Stress, not_measured
from bench.stress.ordeal import Fault, Ordeal
from bench.stress.plan import StressPlan
from bench.stress.plan_faults import SlowDiskPlan
from bench.stress.rig import rig, until
from bench.stress.server import NotMeasured, Server
from bench.stress.slow_sync import SlowSync

NAME = "slow_disk"
TITLE = "a disk that syncs slowly: what becomes of a logger's schedule, and of each arm's throughput"

_MOST_MS = 100.0
"""The longest commit_delay that PostgreSQL knows."""
_RAMP_S = 0.1
_AROUND_S = 4.0
_PREPARE_S = 10.0


def planned_seconds(plan: StressPlan) -> float:
    mine = plan.slow_disk
    faults = len(mine.fsync_delays_ms) + len(_of_server(mine))
    slots = (1 + len(_of_server(mine))) * 2 * mine.pairs * (mine.slot_s + _RAMP_S + 0.1)
    return 2 * _PREPARE_S + faults * (mine.seconds + _AROUND_S) + slots


def run(bench: Stress, section: Section) -> None:
    """First B's logger at its schedule, then both arms as fast as they go. Raises PlcsimError."""
    plan, arm, slow = bench.plan.slow_disk, bench.distinct_arms[-1], SlowSync()
    with bench.server({"commit_siblings": "0"}) as server:
        with rig(
            server, arm, bench.plan.parameters, plan.plcs, plan.interval_s, before=lambda spool: [slow]
        ) as made:
            ordeal = Ordeal(bench, section, made, plan, arm)
            ordeal.start()
            ordeal.suffer([*_slow_spool(plan, slow), *(_slow_server(plan) if server.is_own else ())])
            ordeal.finish()
        try:
            server.own  # noqa: B018 - raises
        except NotMeasured as exc:
            not_measured(section, "the server's fsync delayed", str(exc))
            return
        _throughput(bench, section, server)


def _of_server(plan: SlowDiskPlan) -> list[float]:
    return sorted({min(_MOST_MS, delay) for delay in plan.fsync_delays_ms})


def _slow_spool(plan: SlowDiskPlan, slow: SlowSync) -> Iterator[Fault]:
    for delay_ms in plan.fsync_delays_ms:

        def begin(rig: object, delay_s: float = delay_ms / 1000) -> None:
            slow.delay_s = delay_s

        def end(rig: object) -> None:
            slow.delay_s = 0.0

        yield Fault(f"spool: each sync {delay_ms:g} ms longer", begin, end, plan.seconds)


def _slow_server(plan: SlowDiskPlan) -> Iterator[Fault]:
    for delay_ms in _of_server(plan):
        yield Fault(
            f"server: each flush of the WAL {delay_ms:g} ms longer",
            lambda rig, delay_ms=delay_ms: _delay_commits(rig.server, delay_ms),  # type: ignore[misc]
            lambda rig: _delay_commits(rig.server, 0.0),
            plan.seconds,
        )


def _delay_commits(server: Server, milliseconds: float) -> None:
    """Set it for the whole server, and wait until sessions have it."""
    microseconds = round(1000 * milliseconds)
    with server.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET commit_delay = {microseconds}".encode())
        connection.execute("SELECT pg_reload_conf()")

        def is_set() -> bool:
            ((found,),) = connection.execute("SELECT setting FROM pg_settings WHERE name = 'commit_delay'")
            return int(found) == microseconds

        until(is_set, "the server to take its new commit_delay")


def _throughput(bench: Stress, section: Section, server: Server) -> None:
    """Pairs of slots at saturation with each delay, and without."""
    plan, parameters = bench.plan.slow_disk, bench.plan.parameters
    settings = WorkerSettings(server.conninfo, "", "", (parameters,), running=True)
    request = SlotRequest(parameters, _RAMP_S, saturated_s=plan.slot_s)
    table = Table(
        f"{NAME}: throughput of one connection at saturation",
        ("flush of the WAL", f"A: {bench.arms[0]}", f"B: {bench.arms[1]}", "B's loss"),
        note="Transactions a second, means of slots. The slower the disk, the less anything else costs.",
    )
    section.tables.append(table)
    with server.connect() as monitor, two_arms(monitor, bench.arms, settings) as arms:
        for arm in arms:
            arm.run(SlotRequest(parameters, ramp_s=0.5))
        for delay_ms in (0.0, *_of_server(plan)):
            _delay_commits(server, delay_ms)
            by_name = {arm.name: arm for arm in arms}
            reached: dict[str, list[float]] = {"A": [], "B": []}
            for order in slot_order(plan.pairs, bench.seed):
                for name in order:
                    reached[name].append(_per_second(by_name[name], request))
                    bench.say(f"throughput, flush +{delay_ms:g} ms", plan.slot_s + _RAMP_S + 0.1)
            loss = paired_impact(reached["A"], reached["B"]).negated()
            means = {name: sum(each) / len(each) for name, each in reached.items()}
            table.rows.append(
                (
                    f"+{delay_ms:g} ms",
                    f"{means['A']:,.1f}",
                    f"{means['B']:,.1f}",
                    f"{loss.effect:.1%} [{loss.low:.1%}, {loss.high:.1%}]",
                )
            )
            section.figures.setdefault("throughput", []).append(
                {"flush_delay_ms": delay_ms, "a_per_s": reached["A"], "b_per_s": reached["B"],
                 "loss": loss.to_json()}
            )  # fmt: skip
            for arm in arms:
                value, low, high = mean_interval(reached[arm.name])
                at = {
                    "repository": arm.repository,
                    "parameters": parameters, "flush_delay_ms": delay_ms,
                }  # fmt: skip
                cell = f"{NAME}: flush +{delay_ms:g} ms"
                section.findings.append(Finding("throughput", value, low, high, "tx/s", cell, at))
        _delay_commits(server, 0.0)
        for arm in arms:
            with server.connect(arm.schema) as connection:
                section.verifications[f"{arm.name} at saturation"] = verify(connection)


def _per_second(arm: Arm, request: SlotRequest) -> float:
    loop = arm.run(request).saturated
    assert loop is not None
    return loop.per_second
