"""Faults, one after the other, on a logger that goes on with its schedule; what each did and for how long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.analysis.finding import Finding
from bench.analysis.statistics import mean_interval
from bench.analysis.verdict import Judgement, judge_most
from bench.report.table import Table
from bench.section import Section
from bench.stress.account import account
from bench.stress.context import Stress, not_measured
from bench.stress.logger_process import in_spool
from bench.stress.plan_faults import LoggingPlan
from bench.stress.recovery_times import STEADY_S, WINDOW_S, RecoveryTimes, recovery_times
from bench.stress.rig import Rig
from bench.stress.server import NotMeasured

_LOOK_S = 0.1
_COLUMNS = (
    "fault", "before /s", "worst 1 s", "silence", "first success", "back to 95 %", "drained", "late scans",
    "worst response",
)  # fmt: skip
_NOTE = (
    "Scans that were read well and stored, per second. First success, back to 95 % (kept for "
    f"{STEADY_S:g} s) and drained (no scan late any more) count from the end of the fault; silence is the "
    "longest time without one stored. Late: over twice the longest response before."
)

Step = Callable[[Rig], object]


def nothing(rig: Rig) -> None:
    """A step of a fault that ends, or begins, by itself."""


@dataclass(frozen=True)
class Fault:
    """Something that is done to a rig; times are counted from the return of `end`."""

    name: str
    begin: Step
    end: Step = nothing
    hold_s: float = 0.0
    """Between the two."""
    until: Step = nothing
    """What has to happen before the time to hold begins."""
    prepare: Step = nothing
    """Done before the fault begins to count."""
    clean_up: Step = nothing
    """Done when recovery was seen, or waited for in vain."""


@dataclass(frozen=True)
class Suffered:
    """A fault, and how it went."""

    name: str
    times: RecoveryTimes
    died: str
    """What the logger said, if it ended because of it: it was started again then."""


class Ordeal:
    """Puts a rig through faults and keeps what was seen; it is kept also if the run is interrupted."""

    def __init__(self, bench: Stress, section: Section, rig: Rig, plan: LoggingPlan, arm: str) -> None:
        self._bench, self._section, self._rig, self._plan, self._arm = bench, section, rig, plan, arm
        self.suffered: list[Suffered] = []
        self._steady_since_ns = 0
        self._table = Table(f"{section.name}, {arm}", _COLUMNS, note=_NOTE)
        section.tables.append(self._table)

    def start(self) -> None:
        """Start the logger; the level before the first fault begins to count now."""
        self._rig.start_logger()
        time.sleep(WINDOW_S)  # connecting and the first partitions are no level
        self._steady_since_ns = time.monotonic_ns()

    def suffer(self, faults: Sequence[Fault]) -> None:
        """All of them, in this order; those that are not possible here are noted as not measured."""
        for fault in faults:
            began = time.monotonic()
            try:
                self.suffered.append(self._suffer(fault))
            except NotMeasured as exc:
                not_measured(self._section, fault.name, str(exc))
                continue
            self._table.rows.append(_row(self.suffered[-1]))
            self._section.figures.setdefault(self._arm, []).append(
                {"fault": fault.name, "died": self.suffered[-1].died, **self.suffered[-1].times.to_json()}
            )
            self._bench.say(fault.name, time.monotonic() - began)

    def _suffer(self, fault: Fault) -> Suffered:
        rig, plan = self._rig, self._plan
        fault.prepare(rig)
        left_s = plan.before_s - (time.monotonic_ns() - self._steady_since_ns) / 1e9
        time.sleep(max(0.0, left_s))
        begun_ns = time.monotonic_ns()
        try:
            fault.begin(rig)
            fault.until(rig)
            time.sleep(fault.hold_s)
        finally:
            fault.end(rig)
        ended_ns = time.monotonic_ns()
        died = ""
        while True:
            now_ns = time.monotonic_ns()
            times = recovery_times(rig.logger.stored(), plan.before_s, begun_ns, ended_ns, now_ns)
            if times.is_over or now_ns - ended_ns > plan.after_s * 1e9:
                break
            if not rig.logger.is_alive:
                died = died or self._restart(fault)
            time.sleep(_LOOK_S)
        fault.clean_up(rig)
        # It was as before for so long already: that time may be the level before the next fault.
        self._steady_since_ns = time.monotonic_ns()
        if times.is_over:
            well_s = max(times.back_s, times.drained_s)
            self._steady_since_ns = min(self._steady_since_ns, ended_ns + round(well_s * 1e9))
        return Suffered(fault.name, times, died)

    def _restart(self, fault: Fault) -> str:
        """Start the logger again that a fault has ended; returns how it ended."""
        said = f"exit code {self._rig.logger.exit_code}: {self._rig.logger.complaint()}"
        fault.clean_up(self._rig)
        self._rig.logger.kill()
        self._rig.start_logger()
        return said

    def finish(self) -> None:
        """End the logger in order, count what became of its scans, and judge."""
        section, rig, arm = self._section, self._rig, self._arm
        code = rig.logger.end()
        if code != 0:
            section.invalid.append(f"{arm}: the logger ended with {code}: {rig.logger.complaint()}")
        with rig.server.connect(rig.schema) as connection:
            found = account(connection, rig.logger.accepted, in_spool(rig.logger.settings.spool))
        section.verifications[arm] = found.verification
        section.figures[f"{arm}, in all"] = found.to_json()
        section.judgements += [_named(each, arm) for each in found.judgements()]
        section.judgements.append(self._judged())
        section.findings += self._findings()
        section.findings.append(
            Finding(
                "violations", found.lost + found.duplicated + found.verification.violations,
                math.nan, math.nan, "", f"{section.name}: {arm}", {"repository": arm},
            )
        )  # fmt: skip
        whole = (
            f"all: {found.accepted:,} scans accepted, {found.lost:,} lost, {found.in_gaps:,} not read (gaps)"
        )
        self._table.rows.append((whole, *[""] * (len(_COLUMNS) - 1)))

    def _judged(self) -> Judgement:
        """By the longest recovery that was seen: it is a fact, not a sample's mean."""
        worst = max((each.times.back_s for each in self.suffered), default=math.nan)
        name = f"recovery ({self._section.name}, {self._arm})"
        return judge_most(name, worst, worst, worst, self._bench.targets.recovery_s, "s")

    def _findings(self) -> list[Finding]:
        found = []
        for name in dict.fromkeys(each.name for each in self.suffered):
            seconds = [each.times.back_s for each in self.suffered if each.name == name]
            is_seen = all(map(math.isfinite, seconds))
            mean, low, high = mean_interval(seconds) if is_seen else (math.inf, math.nan, math.nan)
            at = {"fault": name, "repository": self._arm, "times": len(seconds)}
            cell = f"{self._section.name}: {self._arm}, {name}"
            found.append(Finding("recovery_s", mean, low, high, "s", cell, at))
        return found


def _row(each: Suffered) -> tuple[str, ...]:
    times = each.times
    return (
        each.name + (f" (the logger ended, {each.died})" if each.died else ""),
        f"{times.before_per_s:.1f}",
        f"{times.lowest_per_s:.1f}",
        *(_seconds(s) for s in (times.silence_s, times.first_success_s, times.back_s, times.drained_s)),
        f"{times.late_scans:,}",
        _seconds(times.worst_response_s),
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if math.isfinite(seconds) else "not seen"


def _named(judgement: Judgement, arm: str) -> Judgement:
    return replace(judgement, metric=f"{judgement.metric} ({arm})")
