"""`plcbench sweep` as a user meets it: the plan before it runs, arms, and what cannot be resumed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import main

PLAN = "interval_s: [1.0, 0.1]\nrepository: [baseline, synchronizing]\nparameters: 7\nrepeats: 2\n"
Sweep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Sweep:
    """Runs the command on PLAN in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLCSIM_DATABASE", raising=False)
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plcbench", "sweep", "plan.yaml", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def test_a_dry_run_shows_the_runs_and_their_longest_time_and_leaves_nothing(
    sweep: Sweep, tmp_path: Path
) -> None:
    code, out, err = sweep("--dry-run")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 9
    assert all(": at most " in line for line in lines[:8])
    assert sum("every 0.1 s, baseline" in line for line in lines) == 2
    assert lines[8].startswith("4 cells, 8 runs in this order, at most ")
    assert lines[8].endswith("nothing was run")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_arms_of_the_command_line_take_the_place_of_the_repositories(sweep: Sweep) -> None:
    code, out, _ = sweep("--dry-run", "--a", "baseline", "--b", "synchronizing+fillfactor=50")
    assert code == 0
    assert sum("synchronizing+fillfactor=50" in line for line in out.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--a", "baseline"], "--a and --b name the two arms of a sweep together"),
        (["--a", "baseline", "--b", "best"], "'best' is not an arm"),
        (["--a", "baseline", "--b", "baseline"], "names a value twice"),
        (["--resume"], "plcbench-results holds no sweep of this plan to resume"),
        (["--resume", "--json", "nowhere.json"], "nowhere.json: there is nothing to resume"),
        (["--resume", "--json", "plan.yaml"], "plan.yaml: is not JSON"),
        (["--json", "/proc/x/y.json"], "the result cannot be written to /proc/x/y.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_in_one_line(sweep: Sweep, arguments: list[str], said: str) -> None:
    code, out, err = sweep(*arguments)
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert err.startswith("plcbench: ")
    assert said in err
