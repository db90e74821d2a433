"""`plcbench suite`: every part in turn, the result on disk after each; what is stopped keeps what it has."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from psycopg import Connection

from bench.analysis.conclusion import Conclusion, conclude
from bench.analysis.verdict import Targets
from bench.arms.spec import parse_arm
from bench.load.arms import bench_server, growing_wal
from bench.load.failures import DATABASE_ERRORS
from bench.measuring.environment import environment
from bench.results import command_line, now_utc, write_result
from bench.section import Section
from bench.suite import (
    baseline,
    compensation,
    concurrent,
    deadlocks,
    impact,
    isolation,
    memory,
    overhead,
    pool_use,
    races,
    scalability,
    strategies_part,
    why,
)
from bench.suite.context import Suite
from bench.suite.plan import SuitePlan
from logger.database import connect, line_of
from plcsim.errors import PlcsimError

log = logging.getLogger(__name__)

_MOST_WAL_SEGMENTS = 120
_WAL_SEGMENTS_A_SECOND = 0.5
"""Made beforehand, of 16 MB; a checkpoint before each part makes those of the part before usable again."""
_STARTING_S = 6.0
_FAILURES: tuple[type[Exception], ...] = (*DATABASE_ERRORS, PlcsimError, OSError)
"""Of a part, that one line tells all of; anything else is a mistake of ours, and is logged with its place."""


class Part(Protocol):
    """A module of the suite."""

    NAME: str
    TITLE: str

    def planned_seconds(self, plan: SuitePlan) -> float:
        """About how long it takes."""

    def run(self, bench: Suite, section: Section) -> None:
        """Measure, and fill the section meanwhile."""


PARTS: tuple[Part, ...] = (
    *(baseline, impact, why, strategies_part, overhead, scalability),
    *(concurrent, isolation, races, deadlocks, memory, compensation, pool_use),
)
"""In the order in which they run."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SuiteSettings:
    """What to run."""

    plan: SuitePlan
    a: str = "baseline"
    b: str = "synchronizing"
    url: str | None = None
    short: bool = False
    seed: int = 1
    targets: Targets = field(default_factory=Targets)
    only: tuple[str, ...] = ()
    """Names of parts; empty: all."""

    @property
    def parts(self) -> list[Part]:
        return [part for part in PARTS if not self.only or part.NAME in self.only]


@dataclass
class SuiteRun:
    """What a run has found so far."""

    settings: SuiteSettings
    path: Path
    sections: list[Section] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)
    started_at: str = field(default_factory=now_utc)
    started: float = field(default_factory=time.monotonic)
    unfinished: str = "it still runs"

    @property
    def conclusion(self) -> Conclusion:
        planned = [part.NAME for part in self.settings.parts]
        return conclude(self.sections, planned=planned)

    def write(self) -> None:
        """Put everything on disk."""
        write_result(self.path, "suite", self.to_json())

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
                "parts": [part.NAME for part in settings.parts],
            },
            "plan": settings.plan.model_dump(),
            "targets": dataclasses.asdict(settings.targets),
            "environment": self.where,
            "unfinished": self.unfinished,
            "sections": [section.to_json() for section in self.sections],
            **self.conclusion.to_json(),
        }


def planned_seconds(settings: SuiteSettings) -> float:
    """About how long a run takes, in the units in which progress is told."""
    return _STARTING_S + sum(part.planned_seconds(settings.plan) for part in settings.parts)


def _wal_segments(settings: SuiteSettings) -> int:
    """None of a server that is not ours: it has them, or its owner would not want them."""
    wanted = round(_WAL_SEGMENTS_A_SECOND * planned_seconds(settings))
    return 0 if settings.url else min(_MOST_WAL_SEGMENTS, wanted)


def histogram_folder(path: Path) -> Path:
    """Where the histograms of a result go: beside it."""
    return path.with_name(f"{path.stem}-histograms")


def run_suite(
    settings: SuiteSettings, path: Path, on_section: Callable[[Section], None], progress: Progress
) -> SuiteRun:
    """Run all parts; after each one the result is in `path`, and `on_section` is told.

    A part that fails is noted, and the next one runs. Raises InputError, DatabaseError, EmbeddedError and
    what interrupts it, after the result was written.
    """
    for spec in (settings.a, settings.b):
        parse_arm(spec)
    done = SuiteRun(settings, path)
    try:
        with bench_server(settings.url) as conninfo, connect(conninfo) as monitor:
            done.where = environment(monitor)
            done.write()
            with growing_wal(conninfo, _wal_segments(settings)) as grown:
                grown.result()
            progress("starting", _STARTING_S)
            bench = Suite(
                conninfo,
                monitor,
                settings.plan,
                (settings.a, settings.b),
                settings.url is None,
                progress,
                settings.seed,
                settings.targets,
                histogram_folder(path) if path.suffix == ".json" else None,
            )
            for part in settings.parts:
                _run_part(part, bench, done)
                on_section(done.sections[-1])
        done.unfinished = ""
    except BaseException as exc:
        done.unfinished = _why(exc)
        raise
    finally:
        done.write()
    return done


def _run_part(part: Part, bench: Suite, done: SuiteRun) -> None:
    section = Section(part.NAME)
    done.sections.append(section)
    start = time.monotonic()
    _checkpoint(bench.monitor, bench.own_server)
    try:
        part.run(bench, section)
    except _FAILURES as exc:
        section.error = " ".join(line_of(exc).split()) or type(exc).__name__
    except Exception as exc:
        log.exception("part %s", part.NAME)
        section.error = f"{type(exc).__name__}: {_why(exc)}"  # an hour of other parts is not lost for it
    except BaseException as exc:
        section.error = _why(exc)
        raise
    finally:
        section.seconds = time.monotonic() - start
    done.write()


def _checkpoint(monitor: Connection[Any], own_server: bool) -> None:
    """So that none falls into the part, and the WAL of the parts before is used again."""
    if own_server:
        monitor.execute("CHECKPOINT")


def _why(exc: BaseException) -> str:
    if isinstance(exc, KeyboardInterrupt | SystemExit):
        return "stopped before its end"
    return " ".join(str(exc).split()) or type(exc).__name__


def unknown_parts(names: Sequence[str]) -> list[str]:
    """Those that are no parts."""
    return sorted(set(names) - {part.NAME for part in PARTS})
