"""A short run of tests/long/hostile_frames.py, and the proof that it would see a wrong answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from long.hostile_frames import WrongAnswer, run
from test_conformance import DEVICE

Change = Callable[[dict[str, Any]], object]


def test_every_answer_to_50_000_hostile_frames_is_as_the_specification_demands() -> None:
    figures = run(50_000, seed=3)
    assert figures.frames >= 50_000
    assert set(figures.codes) == {0, 1, 2, 3}
    assert min(figures.codes.values()) > 1000
    assert figures.closed > 20
    assert figures.good_answers > 5


WRONG_BELIEFS: dict[str, Change] = {
    "a register fewer": lambda device: device["groups"][2]["parameters"].pop(0),
    "a register that can be written": lambda device: device["groups"][2]["parameters"][11].update(
        writable=True
    ),
    "a gap one address longer": lambda device: device["readable_gaps"][1].update(count=2001),
    "another status": lambda device: device["server"]["functions"].update(exception_status=0x6C),
    "a record fewer": lambda device: device["server"]["functions"]["files"]["4"].pop(),
}


@pytest.mark.parametrize("change", WRONG_BELIEFS.values(), ids=WRONG_BELIEFS)
def test_an_answer_that_is_not_the_expected_one_is_seen(change: Change) -> None:
    believed = copy.deepcopy(DEVICE)
    change(believed)
    with pytest.raises(WrongAnswer):
        run(50_000, seed=4, believed=believed, deadline_s=2.0)
