"""Sweep plans: grids and lists, their order, the longest time, and what is wrong told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sweep.cell import Trial
from bench.sweep.estimate import Remaining, longest_of_all_s, longest_s
from bench.sweep.plan import SweepSpec, load_sweep, with_repositories
from plcsim.errors import ConfigError, InputError

CONFIGS = Path(__file__).parent.parent / "configs" / "bench"
PLAN = """\
interval_s: [1.0, 0.1]
devices: [1, 4]
repository: [baseline, synchronizing]
parameters: 84
duration_s: 5
seed: 1
"""


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str) -> SweepSpec:
    return load_sweep(plan_file(folder, text))


@pytest.mark.parametrize("value", ["on", "[on, off]", '["off", on]'])
def test_a_switch_without_quotes_is_told_to_need_them(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.yaml:7: synchronous_commit.*: True: .*in quotes"):
        load(tmp_path, f"{PLAN}synchronous_commit: {value}\n")


def test_a_profile_cannot_be_called_none(tmp_path: Path) -> None:
    """Its faults would silently not be there."""
    profile = "fault_profiles:\n  none:\n    - {kind: delay, seconds: 1.0}\n"
    with pytest.raises(ConfigError, match=r"sweep\.yaml:8: fault_profiles\.none: .*give it another name"):
        load(tmp_path, PLAN + profile)
    assert load(tmp_path, PLAN + profile.replace("none:", "slow:")).fault_profiles


def test_a_plan_is_every_combination_once(tmp_path: Path) -> None:
    spec = load(tmp_path, PLAN)
    trials = spec.trials()
    assert spec.count() == len(trials) == len(set(trials)) == 8
    assert {trial.interval_s for trial in trials} == {1.0, 0.1}
    assert {(trial.parameters, trial.duration_s) for trial in trials} == {(84, 5.0)}


def test_the_seed_draws_the_order(tmp_path: Path) -> None:
    orders = [tuple(load(tmp_path, PLAN.replace("seed: 1", f"seed: {n}")).trials()) for n in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])


def test_repeats_are_runs_of_their_own_spread_over_the_order(tmp_path: Path) -> None:
    trials = load(tmp_path, PLAN + "repeats: 3\n").trials()
    assert len(set(trials)) == 24
    assert [trial.repeat for trial in trials] != sorted(trial.repeat for trial in trials)


def test_any_field_of_a_trial_can_be_a_factor(tmp_path: Path) -> None:
    text = """\
source: made
interval_s: [0.1, 0.2]
loggers: [1, 2]
devices: [2, 3]
parameters: [10, 20]
scans: [1, 5]
connections: [1, 2]
synchronous_commit: ["on", "off"]
running: [true, false]
plc_scan_ms: 50
duration_s: [3, 4]
warm_up_s: 0
repository: [baseline, synchronizing+fillfactor=50]
"""
    trials = load(tmp_path, text).trials()
    assert len(trials) == 2**10
    assert {trial.duration_s for trial in trials} == {3.0, 4.0}
    assert {trial.arm for trial in trials} == {
        "baseline+synchronous_commit=on",
        "baseline+synchronous_commit=off",
        "synchronizing+fillfactor=50+synchronous_commit=on",
        "synchronizing+fillfactor=50+synchronous_commit=off",
    }


def test_cells_are_grids_that_replace_what_stands_above(tmp_path: Path) -> None:
    text = """\
parameters: 20
interval_s: [1.0, 0.5]
cells:
  - {devices: 2}
  - {interval_s: 0.1, parameters: [7, 8]}
"""
    found = {(t.interval_s, t.devices, t.parameters) for t in load(tmp_path, text).trials()}
    assert found == {(1.0, 2, 20), (0.5, 2, 20), (0.1, 1, 7), (0.1, 1, 8)}


def test_an_update_strategy_is_an_arm(tmp_path: Path) -> None:
    text = "repository: synchronizing+fillfactor=50\nupdate_strategy: [in_case, array_join]\n"
    arms = {trial.arm for trial in load(tmp_path, text).trials()}
    assert arms == {"strategy:in_case+fillfactor=50", "strategy:array_join+fillfactor=50"}


def test_faults_reach_the_trial_with_their_rules(tmp_path: Path) -> None:
    text = "faults: [none, slow]\nfault_profiles:\n  slow: [{kind: delay, seconds: 0.1}]\n"
    by_name = {trial.faults: trial.fault_rules for trial in load(tmp_path, text).trials()}
    assert by_name[""] == ()
    assert [rule.kind for rule in by_name["slow"]] == ["delay"]


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("sweep*.yaml")))
def test_the_examples_that_come_with_it_load(name: str) -> None:
    assert len(load_sweep(CONFIGS / name).trials()) >= 8


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[1.0, 0.1]", "[1.0, 0.001]", 1, "interval_s[1]: 0.001: must be 0.01 or more"),
        ("[1.0, 0.1]", "0.001", 1, "interval_s: 0.001: must be 0.01 or more"),
        ("[1.0, 0.1]", "[]", 1, "must have 1 or more entries"),
        ("[1.0, 0.1]", "[.inf]", 1, "interval_s[0]: inf: must be"),
        ("[1.0, 0.1]", "[0.1, 0.1]", 1, "names a value twice"),
        ("devices: [1, 4]", "devices: [0]", 2, "devices[0]: 0: must be 1 or more"),
        ("devices: [1, 4]", "devices: [65]", 2, "devices[0]: 65: must be 64 or less"),
        ("devices: [1, 4]", "devices: four", 2, "devices: 'four': must be an integer"),
        ("devices: [1, 4]", "devices: [1.5]", 2, "must be an integer"),
        ("devices: [1, 4]", "devices: [1, 4]\nloggers: [1, 2]", 3, "loggers[1]: 2 loggers cannot"),
        ("synchronizing]", "sync]", 3, "repository[1]: 'sync' is not an arm; there are"),
        ("synchronizing]", "baseline+fillfactor=5]", 3, "must be a percentage from 10 to 100"),
        ("synchronizing]", "baseline+pool=5]", 3, "say connections instead"),
        ("repository", "update_strategy: in_case\nrepository", 3, "'in_case' is a way of"),
        ("parameters: 84", "parameters: 4", 4, "parameters: 4: must be 5 or more"),
        ("parameters: 84", "scans: [1, 2]", 4, "scans[1]: 2 scans a transaction need source: made"),
        ("parameters: 84", "source: db", 4, "source: 'db' is not one of 'plc', 'made'"),
        ("parameters: 84", "synchronous_commit: on", 4, "synchronous_commit: True: on and off are true"),
        ("parameters: 84", "faults: [none, bad]", 4, "faults[1]: 'bad' is not one of fault_"),
        ("parameters: 84", "fault_profiles: {a: [{kind: torn}]}", 4, "makes values false without a sign"),
        ("parameters: 84", "fault_profiles: {a: [{kind: dealy}]}", 4, "'dealy' is not one of"),
        ("duration_s: 5", "duration_s: 0", 5, "duration_s: 0: must be more than 0"),
        ("duration_s: 5", "duration_s: long", 5, "must be a number"),
        ("duration_s: 5", "duration_s: 1.5", 5, "1.5 s hold no transaction: 1 s of warm-up"),
        ("duration_s: 5", "duration_s: 80000\nparameters: 5000", 5, "more than the 50,000,000 that"),
        ("seed: 1", "speed: 1", 6, "speed: is not a known key here"),
        ("seed: 1", "cells: [{devices: 2}, {devices: 2}]", 6, "cells[1]: this cell is in the plan already"),
        ("seed: 1", "cells: [{speed: 2}]", 6, "cells[0].speed: is not a known key here"),
        (PLAN, "", 1, "a mapping of keys is expected, found nothing"),
        (PLAN, "[1, 2", 1, "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    text = PLAN.replace(old, new, 1)
    if "parameters: 5000" in text:
        text = text.replace("parameters: 84\n", "interval_s: 0.01\n").replace(
            "interval_s: [1.0, 0.1]\n", "\n", 1
        )
    path = plan_file(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_sweep(path)
    told = str(refused.value)
    assert told.startswith(f"{path}:{line}: ")
    assert said in told
    assert "\n" not in told


def test_a_plan_of_too_many_cells_is_refused_before_they_are_made(tmp_path: Path) -> None:
    many = ", ".join(str(n) for n in range(1, 65))
    text = f"devices: [{many}]\nloggers: [{many}]\nconnections: [{many}]\nparameters: [5, {many[18:]}]\n"
    with pytest.raises(ConfigError, match="cells; 2,000 at most"):
        load(tmp_path, text)


def test_arms_of_the_command_line_replace_the_repositories(tmp_path: Path) -> None:
    spec = load(tmp_path, PLAN)
    changed = with_repositories(spec, ["baseline", "baseline+synchronous_commit=off"])
    assert {trial.arm for trial in changed.trials()} == {"baseline", "baseline+synchronous_commit=off"}
    with pytest.raises(InputError, match="'best' is not an arm"):
        with_repositories(spec, ["baseline", "best"])
    named = load(tmp_path, "cells: [{repository: baseline}]\n")
    with pytest.raises(InputError, match="names them in its cells"):
        with_repositories(named, ["baseline", "synchronizing"])


def test_a_trial_says_what_it_is() -> None:
    trial = Trial(0.5, 3, "baseline", 84, 8.0, loggers=1, faults="slow", repeat=2)
    assert str(trial) == "3 × 84 parameters every 0.5 s, baseline, 1 logger, faults slow, run 2"


def test_the_longest_time_prices_overload_with_its_whole_drain(tmp_path: Path) -> None:
    one = Trial(0.01, 1, "synchronizing", 5000, 5.0)
    assert longest_s(one, 10.0) > 5.0 + 10.0 + 2_500_000 / 30_000
    trials = load(tmp_path, PLAN).trials()
    assert longest_of_all_s(trials, 10.0) > sum(longest_s(trial, 10.0) for trial in trials)


def test_what_is_left_follows_how_long_runs_really_took(tmp_path: Path) -> None:
    trials = load(tmp_path, PLAN).trials()
    remaining = Remaining(trials, 10.0)
    before = remaining.seconds()
    assert before == pytest.approx(sum(longest_s(trial, 10.0) for trial in trials))
    for trial in trials[:4]:
        remaining.ran(trial, longest_s(trial, 10.0) / 2)
    rest = sum(longest_s(trial, 10.0) for trial in trials[4:])
    assert remaining.seconds() == pytest.approx(rest / 2)
    assert remaining.seconds(in_cell_s=5.0) == pytest.approx(rest / 2 - 5.0)
