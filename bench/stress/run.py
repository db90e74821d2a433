"""`plcbench stress`: one scenario after the other; the result is on disk after each, and if it is stopped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.analysis.conclusion import Conclusion, conclude
from bench.analysis.verdict import Outcome, Targets
from bench.arms.spec import parse_arm
from bench.load.arms import ended_by_sigterm
from bench.load.failures import DATABASE_ERRORS
from bench.measuring.environment import environment
from bench.results import command_line, now_utc, write_result
from bench.section import Section
from bench.stress import (
    cpu_hogs,
    escalation,
    full_disk,
    long_reader,
    memory_pressure,
    pool_exhaustion,
    recovery,
    slow_disk,
    storm,
)
from bench.stress.context import Say, Stress, not_measured
from bench.stress.limits import limits_table, operational_limits, unconfirmed
from bench.stress.plan import StressPlan
from bench.stress.server import NotMeasured
from logger.database import line_of
from plcsim.errors import PlcsimError

LIMITS = "operational limits"
"""Name of the last section."""
REQUIRED = ("success",)
"""What must have been judged before a stress run says go; what B costs is the suite's to say."""
_ENVIRONMENT_S = 3.0
_FAILURES: tuple[type[Exception], ...] = (*DATABASE_ERRORS, PlcsimError, OSError)
"""Of a scenario, after which the next one runs; anything else is a mistake of ours and ends the run."""


class Scenario(Protocol):
    """A module of bench.stress."""

    NAME: str
    TITLE: str

    def planned_seconds(self, plan: StressPlan) -> float:
        """About how long it takes."""

    def run(self, bench: Stress, section: Section) -> None:
        """Measure, and fill the section meanwhile."""


SCENARIOS: tuple[Scenario, ...] = (
    escalation,
    storm,
    pool_exhaustion,
    memory_pressure,
    full_disk,
    slow_disk,
    cpu_hogs,
    long_reader,
    recovery,
)
"""In the order in which they run."""


@dataclass(frozen=True)
class StressSettings:
    """What to run."""

    plan: StressPlan
    a: str = "baseline"
    b: str = "synchronizing"
    url: str | None = None
    short: bool = False
    seed: int = 1
    targets: Targets = field(default_factory=Targets)
    only: tuple[str, ...] = ()
    """Names of scenarios; empty: all."""

    @property
    def scenarios(self) -> list[Scenario]:
        return [scenario for scenario in SCENARIOS if not self.only or scenario.NAME in self.only]


@dataclass
class StressRun:
    """What a run has found so far."""

    settings: StressSettings
    path: Path
    sections: list[Section] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)
    started_at: str = field(default_factory=now_utc)
    started: float = field(default_factory=time.monotonic)
    unfinished: str = "it still runs"

    @property
    def conclusion(self) -> Conclusion:
        planned = [scenario.NAME for scenario in self.settings.scenarios]
        return conclude(self.sections, REQUIRED, planned)

    @property
    def exit_code(self) -> int:
        """5 if data is wrong or not to be believed, 1 if a scenario did not end, else the verdict's."""
        if any(s.invalid or any(v.violations for v in s.verifications.values()) for s in self.sections):
            return Outcome.INVALID.exit_code
        if any(section.error for section in self.sections):
            return 1
        return self.conclusion.outcome.exit_code

    def limits(self) -> Section:
        """The operational limits of all sections that may be believed."""
        safety = self.settings.plan.safety
        believed = [section for section in self.sections if section.outcome is not Outcome.INVALID]
        findings = [finding for section in believed for finding in section.findings]
        limits = operational_limits(findings, safety)
        section = Section(LIMITS)
        section.figures = {"safety_share": safety, "limits": [limit.to_json() for limit in limits]}
        for cell in unconfirmed(findings):
            not_measured(section, cell, "its level was not seen to hold twice")
        if limits:
            section.tables.append(limits_table(limits, safety))
        return section

    def write(self) -> None:
        """Put everything on disk."""
        write_result(self.path, "stress", self.to_json())

    def to_json(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "started_at": self.started_at,
            "finished_at": now_utc(),
            "took_s": round(time.monotonic() - self.started, 1),
            "command": command_line(),
            "settings": {
                "a": settings.a,
                "b": settings.b,
                "short": settings.short,
                "seed": settings.seed,
                "own_server": settings.url is None,
                "scenarios": [scenario.NAME for scenario in settings.scenarios],
            },
            "plan": settings.plan.model_dump(),
            "targets": dataclasses.asdict(settings.targets),
            "environment": self.where,
            "unfinished": self.unfinished,
            "sections": [section.to_json() for section in (*self.sections, self.limits())],
            **self.conclusion.to_json(),
        }


def planned_seconds(settings: StressSettings) -> float:
    """About how long a run takes, in the units in which progress is told."""
    return _ENVIRONMENT_S + sum(each.planned_seconds(settings.plan) for each in settings.scenarios)


def run_stress(
    settings: StressSettings, path: Path, on_section: Callable[[Section], None], say: Say
) -> StressRun:
    """Run the scenarios; after each one the result is in `path`, and `on_section` is told.

    One that fails is noted, and the next one runs. Raises DatabaseError, EmbeddedError where not even
    the first server can be had, and what interrupts it, after the result was written.
    """
    for spec in (settings.a, settings.b):
        parse_arm(spec)
    done = StressRun(settings, path)
    bench = Stress(
        settings.plan, (settings.a, settings.b), say, settings.seed, settings.targets, settings.url
    )
    with ended_by_sigterm():
        try:
            with bench.server() as server, server.connect() as monitor:
                done.where = environment(monitor)
            say("environment", _ENVIRONMENT_S)
            done.write()
            for scenario in settings.scenarios:
                _run_scenario(scenario, bench, done)
                on_section(done.sections[-1])
            done.unfinished = ""
        except BaseException as exc:
            done.unfinished = _why(exc)
            raise
        finally:
            done.write()
    return done


def _run_scenario(scenario: Scenario, bench: Stress, done: StressRun) -> None:
    section = Section(scenario.NAME)
    done.sections.append(section)
    start = time.monotonic()
    try:
        scenario.run(bench, section)
    except NotMeasured as exc:
        not_measured(section, scenario.NAME, str(exc))
    except _FAILURES as exc:
        section.error = " ".join(line_of(exc).split()) or type(exc).__name__
    except BaseException as exc:
        section.error = _why(exc)
        raise
    finally:
        section.seconds = time.monotonic() - start
    done.write()


def _why(exc: BaseException) -> str:
    if isinstance(exc, KeyboardInterrupt | SystemExit):
        return "stopped before its end"
    return " ".join(str(exc).split()) or type(exc).__name__
