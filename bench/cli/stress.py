"""`plcbench stress`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.analysis.verdict import Targets
from bench.cli.arm_options import arm_a_option, arm_b_option
from bench.cli.options import console, database_option, progress_on
from bench.cli.targets import targets_option
from bench.report.sections import print_conclusion, print_section
from bench.results import result_path
from bench.section import Section
from bench.stress.plan import StressPlan, load_plan, short_plan
from bench.stress.run import SCENARIOS, StressRun, StressSettings, planned_seconds, run_stress
from logger.database import mapped_errors


@click.command()
@click.option("--short", is_flag=True, help="Each scenario as short as it still says something.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    help="How long and how far each scenario goes.  [default: what configs/bench/stress.yaml says]",
)
@arm_a_option
@arm_b_option
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice([scenario.NAME for scenario in SCENARIOS]),
    help="Only this one; may be given more than once.  [default: all]",
)
@click.option(
    "--seed", type=int, help="Draws every order in which things run.  [default: the plan's, which is 1]"
)
@targets_option
@database_option
@click.option(
    "--output",
    "--json",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the result.  [default: a new one in ./plcbench-results]",
)
def stress(
    short: bool,
    plan: Path | None,
    a: str,
    b: str,
    scenarios: tuple[str, ...],
    seed: int | None,
    targets: Targets,
    url: str | None,
    output: Path | None,
) -> int:
    """Load both arms until something breaks, take away what they need, and see whether the data is right.

    Each scenario has a PostgreSQL of its own, removed after; on a given database, what would stop or fill
    it up is left out, and said. The result is on disk after each scenario; Ctrl-C keeps what there is.

    Exit codes: 0 pass, 1 a scenario did not end, 3 a target is missed, 4 inconclusive, 5 invalid.

    Example: plcbench stress --output stress_results.json
    """
    planned = _plan(plan, short)
    seed = planned.seed if seed is None else seed
    settings = StressSettings(planned, a, b, url, short, seed, targets, scenarios)
    path = result_path("stress", output)
    out = console()
    seconds = planned_seconds(settings)
    names = ", ".join(scenario.NAME for scenario in settings.scenarios)
    where = (
        "the given database" if url else "servers of its own (several GB on disk at times, all removed after)"
    )
    out.print(
        f"{a} and {b} under {names}: about {_duration(seconds)}, on {where}; "
        f"after each the result is in {path}",
        highlight=False,
        soft_wrap=True,
    )
    done = _run(settings, path, out, seconds)
    print_section(done.limits(), out)
    print_conclusion(done.conclusion, out, str(path))
    return done.exit_code


def _plan(path: Path | None, short: bool) -> StressPlan:
    if path is not None:
        return load_plan(path, short)
    return short_plan() if short else StressPlan()


def _run(settings: StressSettings, path: Path, out: Console, seconds: float) -> StressRun:
    """Run it, showing each section when it is there; who interrupts it is told where the rest is."""
    shown: list[Section] = []

    def show(section: Section) -> None:
        shown.append(section)
        print_section(section, out)

    try:
        with progress_on(out, seconds) as say, mapped_errors():
            return run_stress(settings, path, show, say)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or SIGTERM
        out.print(f"stopped after {len(shown)} scenarios; what there is stands in {path}", soft_wrap=True)
        raise


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 300 else f"{seconds / 60:.0f} minutes"
