"""`plcbench suite` and `stress` on the command line: what the plan says, what an older result leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.cli.options import console
from bench.stress.run import StressSettings
from plcsim.errors import PlcsimError

Plcbench = Callable[..., str]


class Reached(PlcsimError):
    """Instead of a run."""


@pytest.fixture
def plcbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Plcbench:
    """Runs the command in a folder of its own: stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLCSIM_DATABASE", raising=False)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["plcbench", *arguments])
        with pytest.raises(SystemExit):
            main()
        return capfd.readouterr().err

    return run


@pytest.mark.parametrize(("arguments", "seed"), [([], 5), (["--seed", "8"], 8), (["--short"], 1)])
def test_the_seed_of_a_stress_plan_counts_unless_another_is_given(
    plcbench: Plcbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], seed: int
) -> None:
    def reached(settings: StressSettings, *more: Any) -> None:
        raise Reached(f"seed {settings.seed}")

    monkeypatch.setattr(sys.modules["bench.cli.stress"], "run_stress", reached)
    (tmp_path / "plan.yaml").write_text("full:\n  seed: 5\n", encoding="utf-8")
    assert plcbench("stress", "--plan", "plan.yaml", *arguments) == f"plcbench: seed {seed}\n"


def test_histograms_of_the_result_that_is_replaced_do_not_stay(
    plcbench: Plcbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Parts that run now write theirs anew; one of a part that does not would pass for a part of this run."""

    def reached(*settings: Any) -> None:
        raise Reached("a run")

    monkeypatch.setattr(sys.modules["bench.cli.suite"], "run_suite", reached)
    folder = tmp_path / "out-histograms"
    folder.mkdir()
    for name in ("impact.hlog", "impact-A.hgrm", "notes.txt"):
        (folder / name).touch()
    assert plcbench("suite", "--part", "why", "--json", "out.json") == "plcbench: a run\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_names_and_messages_with_brackets_are_printed_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    """Rich would take them for markup: [/x] for the end of something, which raises after hours of cells."""
    console().print("failed: syntax error at [/x] in day[1].csv :warning:", highlight=False)
    assert capfd.readouterr().out == "failed: syntax error at [/x] in day[1].csv :warning:\n"
