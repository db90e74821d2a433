"""What every scenario of the stress run is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.analysis.verdict import Targets
from bench.section import Section
from bench.stress.plan import StressPlan
from bench.stress.server import Server, stress_server

Say = Callable[[str, float], None]
"""Told what is being done and how many seconds of the plan that was."""


@dataclass(frozen=True)
class Stress:
    """The run: its plan, its arms, where its servers come from."""

    plan: StressPlan
    arms: tuple[str, str]
    """Specs of A and B (`bench.arms.spec`)."""
    say: Say = lambda what, seconds: None
    seed: int = 1
    targets: Targets = field(default_factory=Targets)
    url: str | None = None
    """The server that the user gave; None: each scenario gets a new one of our own."""

    @property
    def distinct_arms(self) -> tuple[str, ...]:
        """Each spec once."""
        return tuple(dict.fromkeys(self.arms))

    @contextmanager
    def server(
        self, settings: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Iterator[Server]:
        """The given server, or a new one of our own, removed after.

        A scenario that stops, kills or fills it up asks for `server.own`, which raises NotMeasured if
        the user gave it. `settings` and `folder` count for one of our own only.
        """
        with stress_server(self.url, settings, folder) as server:
            yield server


def not_measured(section: Section, what: str, why: str) -> None:
    """Note in the result that a part of a scenario could not be measured here, and why."""
    section.figures.setdefault("not_measured", []).append(f"{what}: {why}")
