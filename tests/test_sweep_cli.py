"""`plcbench sweep` as a user meets it: the plan before it runs, arms, and what cannot be resumed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.results import write_result
from bench.sweep.measured import TrialResult
from bench.sweep.plan import load_sweep
from bench.sweep.resume import load_earlier, plan_of, sources_of
from plcsim.errors import InputError

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
        (["--json", "plan.yaml"], "the file that stands there is no result of plcbench"),
        (["--json", "/proc/x/y.json"], "the result cannot be written to /proc/x/y.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_in_one_line(sweep: Sweep, arguments: list[str], said: str) -> None:
    code, out, err = sweep(*arguments)
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert err.startswith("plcbench: ")
    assert said in err


def begun(folder: Path, done: int, **more: Any) -> Path:
    """A result of plan.yaml in which the first run failed and so many after it ended."""
    spec = load_sweep(folder / "plan.yaml")
    trials = spec.trials()
    cells: list[dict[str, Any]] = [
        {"trial": str(trials[0]), "error": "no disk", "seconds": 1.0, "result": None}
    ]
    for trial in trials[1 : done + 1]:
        result = TrialResult(trial, [], 0, 0, {"violations": 0}).to_json()
        cells.append({"trial": str(trial), "error": "", "seconds": 1.0, "result": result})
    content = {
        "plan": plan_of(spec), "arms": sources_of(spec), "cells": cells, "environment": {"cores": 2},
        "started_at": "2026-11-23", "took_s": 9.0, "unfinished": "stopped after 3 of 8 runs", **more,
    }  # fmt: skip
    path = folder / "begun.json"
    write_result(path, "sweep", content)
    return path


def test_what_is_left_is_what_did_not_end_wherever_it_stands(sweep: Sweep, tmp_path: Path) -> None:
    """The first run failed: what is left is not only the last ones."""
    begun(tmp_path, 3)
    trials = [str(trial) for trial in load_sweep(tmp_path / "plan.yaml").trials()]
    code, out, _ = sweep("--dry-run", "--resume", "--json", "begun.json")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 6)
    assert [line.partition(": at most")[0] for line in lines[:-1]] == [trials[0], *trials[4:]]
    assert "4 cells, 5 runs in this order" in lines[-1]


def test_a_stopped_sweep_is_not_begun_anew_in_its_file(sweep: Sweep, tmp_path: Path) -> None:
    path = begun(tmp_path, 3)
    before = path.read_text()
    code, out, err = sweep("--json", "begun.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "begun.json: holds a sweep that did not end: stopped after 3 of 8 runs; --resume goes on" in err
    assert path.read_text() == before


@pytest.mark.parametrize(
    "change",
    [{"plan": []}, {"cells": {}}, {"cells": [1]}, {"environment": None}, {"took_s": "x"}, {"started_at": 1}],
    ids=str,
)
def test_a_result_that_is_not_whole_is_not_resumed(
    sweep: Sweep, tmp_path: Path, change: dict[str, Any]
) -> None:
    begun(tmp_path, 1, **change)
    code, out, err = sweep("--resume", "--dry-run", "--json", "begun.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "begun.json: " in err


def test_an_arm_whose_file_was_changed_is_another_plan(tmp_path: Path) -> None:
    arm = tmp_path / "mine.sql"
    arm.write_text("SELECT %(first_scan)s", encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(f"source: made\nrepository: {arm}\n", encoding="utf-8")
    spec = load_sweep(tmp_path / "plan.yaml")
    path = begun(tmp_path, 0)
    assert list(json.loads(path.read_text())["arms"]) == [str(arm)]
    assert load_earlier(spec, path).started_at
    arm.write_text("SELECT %(last_scan)s", encoding="utf-8")
    with pytest.raises(InputError, match=r"is of another plan: .*mine\.sql changed since; nothing was run"):
        load_earlier(spec, path)
