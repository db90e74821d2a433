"""Sweep file: YAML -> the cells to run.

Each key is a condition of a trial. A value holds for all cells; a list is a factor of the grid: every
combination of all lists is a cell. `cells` lists grids of their own: each entry replaces what stands
above, and is spread over its lists likewise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from bench.load.machine import FEWEST_PARAMETERS
from bench.sweep.cell import PLC, Trial, problem_of
from plcsim.errors import InputError
from plcsim.faults.rules import FaultField, FaultRule
from plcsim.names import Name
from plcsim.yaml_file import Complaint, Location, load_yaml

MOST_CELLS = 2000
_FALSE_VALUES = ("bit_flips", "torn")
"""Faults that make values false without a sign: no logger could know, so every cell would be INVALID."""

T = TypeVar("T")


def _shape(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


Factor = Annotated[
    Annotated[T, Tag("one")] | Annotated[list[T], Field(min_length=1), Tag("many")], Discriminator(_shape)
]
"""A value, or a list of values."""


def _in_quotes(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError('on and off are true and false to YAML; write "on" or "off", in quotes')
    return value


Commit = Annotated[Literal["on", "off", "local", "remote_write", "remote_apply"], BeforeValidator(_in_quotes)]
"""What PostgreSQL's synchronous_commit may be."""


class Factors(BaseModel):
    """What may be varied; what is not given stands as it is above, or as the trial has it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    interval_s: Factor[Annotated[float, Field(ge=0.01, le=3600)]] | None = None
    devices: Factor[Annotated[int, Field(ge=1, le=64)]] | None = None
    """Machines polled at once, each with an emulator process of its own."""
    loggers: Factor[Annotated[int, Field(ge=0, le=64)]] | None = None
    """Processes that share them; 0: one for each."""
    repository: Factor[str] | None = None
    update_strategy: Factor[str] | None = None
    parameters: Factor[Annotated[int, Field(ge=FEWEST_PARAMETERS, le=5000)]] | None = None
    scans: Factor[Annotated[int, Field(ge=1, le=500)]] | None = None
    connections: Factor[Annotated[int, Field(ge=0, le=100)]] | None = None
    synchronous_commit: Factor[Commit] | None = None
    source: Factor[Literal["plc", "made"]] | None = None
    faults: Factor[str] | None = None
    running: Factor[bool] | None = None
    plc_scan_ms: Factor[Annotated[float, Field(ge=1, le=10_000)]] | None = None
    duration_s: Factor[Annotated[float, Field(gt=0, le=86_400)]] | None = None
    """Of the logging in each cell, warm-up included."""
    warm_up_s: Factor[Annotated[float, Field(ge=0, le=3600)]] | None = None


DEFAULTS: dict[str, Any] = {
    "interval_s": 1.0,
    "devices": 1,
    "loggers": 0,
    "repository": "synchronizing",
    "update_strategy": "",
    "parameters": 84,
    "scans": 1,
    "connections": 0,
    "synchronous_commit": "",
    "source": PLC,
    "faults": "none",
    "running": True,
    "plc_scan_ms": 100.0,
    "duration_s": 10.0,
    "warm_up_s": 1.0,
}
NO_FAULTS = "none"


class SweepSpec(Factors):
    """A sweep: the grid, or several, and how its cells are run."""

    cells: list[Factors] | None = Field(default=None, min_length=1)
    fault_profiles: dict[Name, Annotated[list[FaultField], Field(min_length=1)]] = Field(default_factory=dict)
    """Faults of the emulators by a name that `faults` may use, as in a device file."""
    repeats: int = Field(default=1, ge=1, le=100)
    """Runs of each cell; their spread is what says whether two cells differ."""
    seed: int = 1
    """Draws the order of all runs, so that a drift of this machine does not follow the grid."""

    def trials(self) -> list[Trial]:
        """All runs in the order in which they run; raises Complaint for what cannot run."""
        cells = [trial for trial, _ in self.located_cells()]
        runs = [replace(cell, repeat=n + 1) for n in range(self.repeats) for cell in cells]
        random.Random(self.seed).shuffle(runs)
        return runs

    def located_cells(self) -> Iterator[tuple[Trial, dict[str, Location]]]:
        """Each cell once, as in the file, and where each of its values, and its grid (""), stands."""
        for index, grid in enumerate(self._grids()):
            where: Location = () if grid is None else ("cells", index)
            names = list(DEFAULTS)
            for combination in product(*(self._choices(name, grid, where) for name in names)):
                values = {name: value for name, (value, _) in zip(names, combination, strict=True)}
                places = {name: place for name, (_, place) in zip(names, combination, strict=True)}
                yield self._trial(values, places), {**places, "": where}

    def count(self) -> int:
        """Cells, without making them."""
        sizes = [[len(self._choices(name, grid, ())) for name in DEFAULTS] for grid in self._grids()]
        return sum(math.prod(each) for each in sizes)

    def _grids(self) -> Sequence[Factors | None]:
        return self.cells or (None,)

    def _choices(self, name: str, grid: Factors | None, where: Location) -> list[tuple[Any, Location]]:
        """The values of a factor, each with its place in the file."""
        for model, prefix in ((grid, where), (self, ())):
            given = None if model is None else getattr(model, name)
            if isinstance(given, list):
                return [(value, (*prefix, name, index)) for index, value in enumerate(given)]
            if given is not None:
                return [(given, (*prefix, name))]
        return [(DEFAULTS[name], (*where, name))]

    def _trial(self, values: dict[str, Any], places: dict[str, Location]) -> Trial:
        profile = values["faults"]
        rules: list[FaultRule] = []
        if profile != NO_FAULTS:
            if profile not in self.fault_profiles:
                known = ", ".join([NO_FAULTS, *self.fault_profiles])
                raise Complaint(
                    places["faults"], f"{profile!r} is not one of fault_profiles; there are {known}"
                )
            rules = self.fault_profiles[profile]
        values = {**values, "faults": "" if profile == NO_FAULTS else profile}
        return Trial(**values, fault_rules=tuple(rules))


def load_sweep(path: Path | str) -> SweepSpec:
    """Load a sweep file; raises ConfigError."""
    return load_yaml(path, SweepSpec, _check)


def with_repositories(spec: SweepSpec, arms: list[str]) -> SweepSpec:
    """The plan with other repositories; raises InputError if it names them in its cells, or one is no arm."""
    if any(grid.repository is not None for grid in spec.cells or []):
        raise InputError(
            "--a and --b replace the repositories of a plan, but this one names them in its cells"
        )
    changed = spec.model_copy(update={"repository": arms})
    try:
        _check(changed)
    except Complaint as exc:
        raise InputError(f"--a {arms[0]} --b {arms[1]}: {exc.problem}") from None
    return SweepSpec.model_validate(changed.model_dump(exclude_unset=True))


def _check(spec: SweepSpec) -> None:
    _check_lists(spec, ())
    for index, grid in enumerate(spec.cells or []):
        _check_lists(grid, ("cells", index))
    _check_profiles(spec)
    if spec.count() > MOST_CELLS:
        raise Complaint((), f"the plan has {spec.count():,} cells; {MOST_CELLS:,} at most")
    seen: set[Trial] = set()
    for trial, places in spec.located_cells():
        if problem := problem_of(trial):
            raise Complaint(places[problem[0]], problem[1])
        if trial in seen:
            raise Complaint(places[""], f"this cell is in the plan already: {trial}")
        seen.add(trial)


def _check_lists(grid: Factors, where: Location) -> None:
    for name in DEFAULTS:
        values = getattr(grid, name)
        if isinstance(values, list) and len(set(values)) < len(values):
            raise Complaint((*where, name), f"{values} names a value twice")


def _check_profiles(spec: SweepSpec) -> None:
    for name, rules in spec.fault_profiles.items():
        if name == NO_FAULTS:
            raise Complaint(
                ("fault_profiles", name), f"faults: {NO_FAULTS} is to have none; give it another name"
            )
        for index, rule in enumerate(rules):
            if rule.kind in _FALSE_VALUES:
                raise Complaint(
                    ("fault_profiles", name, index, "kind"),
                    f"{rule.kind!r} makes values false without a sign: every cell would be INVALID",
                )
