"""Commands and failures of the process: against a machine that moves on PLC scan by PLC scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fix_machine import (
    ACKNOWLEDGE,
    BUTTON_IDS,
    IDLE_S,
    NUMBER_ID,
    RECIPE,
    RUNNING_ID,
    START,
    STATE_ID,
    STEP_ID,
    STOP,
    Operated,
    machine,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from plcsim.errors import ConfigError
from plcsim.truth import Truth
from plcsim.writes import Write

IDLE, RUNNING, HOLD, FAULT = range(4)
SCAN_S = 0.1
IDLE_SCANS = round(IDLE_S / SCAN_S)
STEPS = [0] * IDLE_SCANS + [
    {"heat": 1, "hold": 2, "cool": 3}[name]
    for name, seconds in RECIPE
    for _ in range(round(seconds / SCAN_S))
]
FAILURES = [{"every": 3, "step": "cool", "after_s": 0.2}, {"execution": 2, "step": "heat"}]
"""At places 13 and 5 of an execution."""

Shown = tuple[int, int, int, int]
"""running, step, number, state."""


class Machine:
    """The process as docs/signals.md tells it, one PLC scan after the other."""

    def __init__(self, commanded: bool, failing: bool) -> None:
        self.commanded, self.failing = commanded, failing
        self.state, self.place, self.number = IDLE, 0, 1

    def scan(self, pressed: set[int], is_first: bool) -> Shown:
        if not is_first and (self.state == RUNNING or (self.state == IDLE and not self.commanded)):
            self.move_on()
        self.fail_if_due()
        if ACKNOWLEDGE in pressed and self.state == FAULT:
            self.end()
        if STOP in pressed:
            self.stop()
        elif START in pressed:
            self.start()
        self.fail_if_due()
        runs = self.state in (RUNNING, HOLD)
        return int(runs), STEPS[self.place] if runs else 0, self.number, self.state

    def move_on(self) -> None:
        self.place += 1
        if self.place == len(STEPS):
            self.end()
        elif self.place == IDLE_SCANS:
            self.state = RUNNING

    def start(self) -> None:
        if self.state == IDLE:
            self.place = IDLE_SCANS
        if self.state in (IDLE, HOLD):
            self.state = RUNNING

    def stop(self) -> None:
        if self.state == HOLD:
            self.end()
        elif self.state == RUNNING:
            self.state = HOLD

    def end(self) -> None:
        self.state, self.place, self.number = IDLE, 0, self.number + 1

    def fail_if_due(self) -> None:
        due = (self.place == 13 and self.number % 3 == 0) or (self.place == 5 and self.number == 2)
        if self.failing and self.state == RUNNING and due:
            self.state = FAULT


presses = st.dictionaries(
    st.integers(0, 120),
    st.lists(st.tuples(st.sampled_from([START, STOP, ACKNOWLEDGE]), st.booleans()), max_size=4),
    max_size=25,
)


def shown(values: dict[int, float]) -> Shown:
    running, step, number, state = (int(values[i]) for i in (RUNNING_ID, STEP_ID, NUMBER_ID, STATE_ID))
    return running, step, number, state


def config(mode: str, failing: bool) -> Any:
    return machine(mode=mode, failures=FAILURES if failing else [])


CONFIGS = {(mode, failing): config(mode, failing)
           for mode in ("automatic", "commanded") for failing in (True, False)}  # fmt: skip


@pytest.mark.parametrize(("mode", "failing"), CONFIGS)
@settings(max_examples=60, deadline=None, database=None)
@given(pressed=presses)
def test_device_and_truth_do_what_the_commands_say(
    mode: str, failing: bool, pressed: dict[int, list[tuple[int, bool]]]
) -> None:
    config = CONFIGS[mode, failing]
    operated, reference = Operated(config), Machine(mode == "commanded", failing)
    expected, seen = [], []
    down: set[int] = set()
    for scan in range(150):
        operated.device.scan(scan)
        expected.append(reference.scan(down, scan == 0))
        seen.append(shown(operated.shown()))
        down = set()
        for button, value in pressed.get(scan, []):
            operated.press(button, value)
            down = down | {button} if value else down - {button}
    assert seen == expected
    truth = Truth(config).values_at(np.arange(150), operated.writes)
    columns = [config.register_map.index_of(i) for i in (RUNNING_ID, STEP_ID, NUMBER_ID, STATE_ID)]
    assert [tuple(row) for row in truth[:, columns].astype(int).tolist()] == expected


def test_a_push_button_reads_back_true_till_the_next_plc_scan() -> None:
    operated = Operated(CONFIGS["commanded", False])
    operated.device.scan(4)
    operated.press(START)
    assert operated.shown()[BUTTON_IDS[START]] == 1
    operated.device.scan(5)
    assert operated.shown()[BUTTON_IDS[START]] == 0
    truth = Truth(operated.config)
    assert [truth.value_at(BUTTON_IDS[START], scan, operated.writes) for scan in (4, 5, 6)] == [0, 0, 0]
    assert truth.written_value(operated.writes[0]) == 1


def test_a_commanded_process_runs_once() -> None:
    operated = Operated(CONFIGS["commanded", False])
    operated.device.scan(100)
    assert shown(operated.shown()) == (0, 0, 1, IDLE)
    operated.press(START)
    states = []
    for scan in range(101, 200):
        operated.device.scan(scan)
        states.append(shown(operated.shown())[3])
    assert states == [RUNNING] * 10 + [IDLE] * 89
    assert shown(operated.shown()) == (0, 0, 2, IDLE)


def test_a_hold_keeps_its_step_and_then_goes_on() -> None:
    operated = Operated(CONFIGS["commanded", False])
    operated.press(START)
    operated.device.scan(4)
    operated.press(STOP)
    for scan in (5, 1000, 10**6):
        operated.device.scan(scan)
        assert shown(operated.shown()) == (1, 2, 1, HOLD)
    operated.press(START)
    operated.device.scan(10**6 + 1)
    assert shown(operated.shown()) == (1, 2, 1, RUNNING)


def test_a_fault_lasts_until_it_is_acknowledged() -> None:
    truth = Truth(CONFIGS["automatic", True])
    writes = [Write(10**6, BUTTON_IDS[START], 1), Write(2 * 10**6, BUTTON_IDS[ACKNOWLEDGE], 1)]
    states = truth.values_at(np.array([19, 20, 10**6 + 1, 2 * 10**6, 2 * 10**6 + 1]), writes)
    state = truth.values_at(np.array([0]))[0]
    assert state[CONFIGS["automatic", True].register_map.index_of(NUMBER_ID)] == 1
    column = CONFIGS["automatic", True].register_map.index_of(STATE_ID)
    assert states[:, column].tolist() == [IDLE, FAULT, FAULT, FAULT, IDLE]


def test_commands_survive_in_a_bounded_memory() -> None:
    operated = Operated(CONFIGS["automatic", False])
    for scan in range(0, 5000, 5):
        operated.device.scan(scan)
        operated.press([START, STOP][scan % 2])
    history = operated.device._history
    assert len(history.stages) <= 4
    operated.device.scan(5000)
    assert operated.shown()[STATE_ID] == Truth(operated.config).value_at(STATE_ID, 5000, operated.writes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"commands": {"start": "plc.nothing"}}, "commands.start: 'plc.nothing' is not a writable bool"),
        ({"commands": {"start": "plc.running"}}, "commands.start: 'plc.running' is not a writable bool"),
        ({"commands": {"start": "plc.stop", "stop": "plc.stop"}}, "'plc.stop' is more than one command"),
        ({"mode": "commanded", "commands": {}}, "process.mode: 'commanded' never runs without commands"),
        ({"mode": "manual"}, "process.mode: 'manual' is not one of 'automatic', 'commanded'"),
        ({"failures": [{"execution": 1, "step": "fly"}]}, "failures[0].step: 'fly' is not a step"),
        ({"failures": [{"execution": 1, "step": "idle"}]}, "failures[0].step: 'idle' is not a step"),
        ({"failures": [{"execution": 1, "step": "hold", "after_s": 0.2}]},
         "failures[0].after_s: 0.2: must be less than 0.2"),
        ({"failures": [{"step": "hold"}]}, "give either execution or every"),
        ({"failures": [{"execution": 1, "every": 1, "step": "hold"}]}, "give either execution or every"),
        ({"failures": [{"every": 1, "step": "hold"}], "commands": {"start": "plc.start"}},
         "process.failures: they last for ever without commands: {acknowledge: ...}"),
    ],
    ids=str,
)  # fmt: skip
def test_a_process_that_could_not_be_commanded_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        machine(**changes)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
