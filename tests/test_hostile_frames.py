"""A short run of tests/long/hostile_frames.py, and the proof that it would see a wrong answer."""

from __future__ import annotations

import copy
from random import Random

import pytest
from long import hostile_frames
from long.hostile_frames import Attacker, Figures, WrongAnswer
from long.hostile_stream import HostileStream, flip
from long.oracle import Oracle
from test_conformance import DEVICE, SECTIONS, as_bytes

from fix_emulator import Emulator


def test_every_answer_to_50_000_hostile_frames_is_as_the_specification_demands() -> None:
    figures = hostile_frames.run(50_000, seed=3)
    assert figures.frames >= 50_000
    assert set(figures.codes) == {0, 1, 2, 3}
    assert min(figures.codes.values()) > 1000
    assert figures.closed > 20
    assert figures.good_answers > 5
