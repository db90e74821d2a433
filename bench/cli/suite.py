"""`plcbench suite`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from bench.analysis.verdict import Outcome, Targets
from bench.cli.arm_options import arm_a_option, arm_b_option
from bench.cli.options import console, database_option, progress_on, result_option
from bench.cli.targets import targets_option
from bench.report.sections import print_conclusion, print_section
from bench.results import result_path
from bench.section import Section
from bench.suite.plan import load_suite
from bench.suite.run import PARTS, SuiteRun, SuiteSettings, histogram_folder, planned_seconds, run_suite
from logger.database import mapped_errors
from plcsim.errors import InputError

_PLAN = Path(__file__).parent.parent.parent / "configs" / "bench" / "suite.yaml"


@click.command()
@click.option("--short", is_flag=True, help="Less than five minutes: wide intervals, and it says so.")
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_PLAN,
    show_default="configs/bench/suite.yaml",
    help="How long and how far each part goes.",
)
@arm_a_option
@arm_b_option
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice([part.NAME for part in PARTS]),
    help="Only this part; may be given more than once.  [default: all]",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Draws every order in which things run.")
@targets_option
@database_option
@result_option
def suite(
    short: bool,
    plan: Path,
    a: str,
    b: str,
    parts: tuple[str, ...],
    seed: int,
    targets: Targets,
    url: str | None,
    json_path: Path | None,
) -> int:
    """Run the comprehensive comparison of two arms, part by part, and say whether B may be deployed.

    The result is on disk after each part; Ctrl-C keeps what there is. Exit codes: 0 pass, 1 a part did not
    end, 3 a target is missed, 4 inconclusive, 5 invalid. What an ARM may be: see plcbench quick --help.

    Example: plcbench suite --short
    """
    settings = SuiteSettings(load_suite(plan, short), a, b, url, short, seed, targets, parts)
    path = result_path("suite", json_path)
    out = console()
    seconds = planned_seconds(settings)
    out.print(
        f"{a} against {b}: {len(settings.parts)} parts, about {_duration(seconds)}, on "
        f"{'the given database' if url else 'a PostgreSQL of its own (some GB on disk, removed after)'}; "
        f"after each part the result is in {path}",
        highlight=False,
        soft_wrap=True,
    )
    _forget_histograms(histogram_folder(path))
    done = _run(settings, path, out, seconds)
    print_conclusion(done.conclusion, out, str(path))
    if histogram_folder(path).is_dir():
        out.print(f"histograms: {histogram_folder(path)}", highlight=False, soft_wrap=True)
    elif path.suffix != ".json":
        out.print("histograms: none, for the result's name does not end in .json", highlight=False)
    return exit_code(done)


def _forget_histograms(folder: Path) -> None:
    """Remove those of the result that is replaced: a part that does not run now would seem to have run."""
    try:
        for old in [*folder.glob("*.hlog"), *folder.glob("*.hgrm")]:
            old.unlink()
    except OSError as exc:
        raise InputError(f"{folder}: old histograms cannot be removed: {exc.strerror}") from None


def _run(settings: SuiteSettings, path: Path, out: Console, seconds: float) -> SuiteRun:
    """Run it, showing each section when it is there; what interrupts it is told where the rest is."""
    shown: list[Section] = []

    def show(section: Section) -> None:
        shown.append(section)
        print_section(section, out)

    try:
        with progress_on(out, seconds) as progress, mapped_errors():
            return run_suite(settings, path, show, progress)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or SIGTERM
        out.print(f"stopped after {len(shown)} parts; what there is stands in {path}", soft_wrap=True)
        raise


def exit_code(done: SuiteRun) -> int:
    """Of the whole run: a part that did not end is a run error, whatever the others say."""
    outcome = done.conclusion.outcome
    if any(section.error for section in done.sections):
        return 1
    return Outcome.INVALID.exit_code if outcome is Outcome.INVALID else outcome.exit_code


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 300 else f"{seconds / 60:.0f} minutes"
