"""The option `--targets FILE` of the commands that judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.analysis.targets import load_targets
from bench.analysis.verdict import Targets


def _load(context: click.Context, parameter: click.Parameter, path: Path | None) -> Targets:
    return load_targets(path) if path else Targets()


targets_option: Callable[[Any], Any] = click.option(
    "--targets",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_load,
    help="YAML file of what B may cost; see configs/bench/targets.yaml.  [default: those of that file]",
)
"""Gives the command a keyword `targets` with `Targets`; a file that is wrong ends it with exit code 2."""
