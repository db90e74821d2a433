"""Sweep file: YAML -> the cells to run."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bench.machine import FEWEST_PARAMETERS
from bench.trial import Trial
from logger.repositories import REPOSITORIES
from plcsim.yaml_file import Complaint, load_yaml

Interval = Annotated[float, Field(ge=0.01, le=3600)]
Devices = Annotated[int, Field(ge=1, le=64)]


class SweepSpec(BaseModel):
    """Grid of polling interval, concurrency and repository; one trial a cell."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    intervals_s: list[Interval] = Field(min_length=1)
    devices: list[Devices] = Field(min_length=1)
    """Machines polled at once, each with an emulator and a logger process of its own."""
    repositories: list[str] = Field(min_length=1)
    parameters: int = Field(default=84, ge=FEWEST_PARAMETERS, le=5000)
    duration_s: float = Field(default=5.0, gt=0, le=86_400)
    """Of the logging in each cell."""
    seed: int = 1
    """Draws the order of the cells, so that a drift of this machine does not follow the grid."""

    def trials(self) -> list[Trial]:
        """All cells in the order in which they run."""
        cells = [
            Trial(interval, devices, repository, self.parameters, self.duration_s)
            for interval, devices, repository in product(self.intervals_s, self.devices, self.repositories)
        ]
        random.Random(self.seed).shuffle(cells)
        return cells


def load_sweep(path: Path | str) -> SweepSpec:
    """Load a sweep file; raises ConfigError."""
    return load_yaml(path, SweepSpec, _check)


def _check(spec: SweepSpec) -> None:
    for index, name in enumerate(spec.repositories):
        if name not in REPOSITORIES:
            raise Complaint(
                ("repositories", index), f"{name!r} is not a repository; there are {', '.join(REPOSITORIES)}"
            )
    for key in ("intervals_s", "devices", "repositories"):
        values = getattr(spec, key)
        if len(set(values)) < len(values):
            raise Complaint((key,), f"{values} names a value twice")
