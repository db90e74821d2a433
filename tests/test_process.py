"""The process: idle, the recipe's steps, idle again, as a pure function of the PLC scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from plcsim.process import Process, ProcessSpec

DOSE_AND_PURGE = [{"name": "dose", "seconds": 0.1}, {"name": "purge", "seconds": 0.2}]
BAKE: dict[str, Any] = {
    "recipe": "bake",
    "running": "plc.running",
    "number": "plc.number",
    "idle_s": 0.4,
    "phases": [
        {"steps": [{"name": "heat", "seconds": 0.3}]},
        {"times": 2, "steps": DOSE_AND_PURGE},
        {"steps": [{"name": "heat", "seconds": 0.1}]},
    ],
}
CYCLE = [0, 0, 0, 0, 1, 1, 1, 2, 3, 3, 2, 3, 3, 1]
"""Steps of one execution at 100 ms: idle, heat, twice dose and purge, heat."""


def process(plc_scan_s: float = 0.1, **changes: Any) -> Process:
    return Process(ProcessSpec.model_validate(BAKE | changes), plc_scan_s)


def test_a_cycle_is_idle_and_then_the_recipe_and_repeats() -> None:
    state = process().state_at(np.arange(3 * len(CYCLE)))
    assert state.step.tolist() == 3 * CYCLE
    assert state.running.tolist() == [step > 0 for step in 3 * CYCLE]


def test_steps_are_numbered_by_first_appearance() -> None:
    assert process().step_names == ["idle", "heat", "dose", "purge"]


def test_process_number_counts_from_one_and_changes_as_the_idle_part_begins() -> None:
    number = process().state_at(np.arange(3 * len(CYCLE))).number
    assert number.tolist() == [n for n in (1, 2, 3) for _ in CYCLE]


@pytest.mark.parametrize("first", [14 * 10**6, 14 * 2**31, 14 * 2**40])
def test_state_depends_on_the_place_in_the_cycle_however_far(first: int) -> None:
    state = process().state_at(first + np.arange(14))
    assert state.step.tolist() == CYCLE
    assert set(state.number.tolist()) == {first // 14 + 1}


@pytest.mark.parametrize(
    ("seconds", "plc_scan_s", "scans"),
    [
        (0.3, 0.1, 3),
        (0.24, 0.1, 2),
        (0.26, 0.1, 3),
        (0.7, 0.1, 7),
        (1.0, 0.07, 14),
        (0.001, 0.1, 1),
        (2, 0.01, 200),
    ],
)
def test_a_step_takes_whole_plc_scans_and_at_least_one(seconds: float, plc_scan_s: float, scans: int) -> None:
    phases = [{"steps": [{"name": "heat", "seconds": seconds}]}]
    timed = process(plc_scan_s, idle_s=plc_scan_s, phases=phases)
    assert timed.cycle_scans == 1 + scans
    assert timed.state_at(np.arange(1 + scans)).step.tolist() == [0] + scans * [1]


@pytest.mark.parametrize("machine", [Process(None, 0.1), process(phases=[])])
def test_without_a_recipe_the_machine_idles_for_ever(machine: Process) -> None:
    state = machine.state_at(np.arange(1000))
    assert machine.step_names == ["idle"]
    assert not state.running.any()
    assert not state.step.any()


def test_states_have_the_shape_of_the_plc_scans() -> None:
    state = process().state_at(np.arange(28).reshape(2, 14))
    assert state.step.tolist() == [CYCLE, CYCLE]
    assert state.number.tolist() == [14 * [1], 14 * [2]]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": ""},
        {"idle_s": 0.0},
        {"phases": [{"steps": []}]},
        {"phases": [{"times": 0, "steps": [{"name": "heat", "seconds": 1.0}]}]},
        {"phases": [{"steps": [{"name": "heat", "seconds": -1.0}]}]},
        {"phases": [{"steps": [{"name": "", "seconds": 1.0}]}]},
        {"phases": [{"steps": [{"name": "heat", "seconds": 1.0, "minutes": 1}]}]},
        {"idle_s": float("inf")},
    ],
    ids=str,
)
def test_a_recipe_that_cannot_run_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProcessSpec.model_validate(BAKE | changes)
