"""The suite's parts isolation and races: what must hold holds, and what is planted is found."""

from __future__ import annotations

import time

import pytest
from fix_checks import run_part
from fix_postgres import Schema

from bench.analysis.verdict import Outcome
from bench.load.scan_source import PrecomputedScans
from bench.suite import isolation, races
from bench.suite.crowd import crowd_device
from bench.suite.readers import CONTROL, ONE_STATEMENT, REPEATABLE, ReaderSettings, disagreement, read_beside
from logger.repositories import SynchronizingRepository
from logger.scan import ScanLayout, batch_of

WHOLE = (7, 20, 7, 7, 1, 7, 20, 20, 20, 7, 7, 1, 20, 7, 7)
"""A state of 20 parameters at scan 7: head, history, ledger, process rows, current values."""


def changed(place: int, value: int | None) -> tuple[int | None, ...]:
    return (*WHOLE[:place], value, *WHOLE[place + 1 :])


def test_one_whole_transaction_agrees() -> None:
    assert disagreement(WHOLE, 20, keeps_current=True) == ""
    baseline = (*WHOLE[:13], 0, 0)
    assert disagreement(baseline, 20, keeps_current=False) == ""
    assert disagreement(baseline, 20, keeps_current=True).startswith("current values: stream at 7")


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (0, 8, "the history and the ledger and the process's rows and current values"),
        (1, 19, "the history"),
        (3, 8, "the history"),
        (4, 2, "the history"),
        (5, None, "the ledger"),
        (7, 0, "the ledger"),
        (8, 19, "the process's rows"),
        (10, 6, "the process's rows"),
        (13, 6, "current values"),
        (12, 19, "current values"),
    ],
)
def test_half_a_transaction_is_said_to_be_one(place: int, value: int | None, what: str) -> None:
    assert disagreement(changed(place, value), 20, keeps_current=True).startswith(f"{what}: ")


def test_readers_see_a_writer_that_is_not_atomic(schema: Schema) -> None:
    config = crowd_device(20, 1)
    layout, source = ScanLayout(config), PrecomputedScans(config, 4)
    stream = schema.stream(SynchronizingRepository, config)
    stream.store(batch_of([source.next(1)], layout))
    streams = ((layout.device_id, 1),)
    settings = ReaderSettings(schema.conninfo, schema.name, streams, 20, True, 1, seconds=0.05)
    honest = read_beside(settings, time.perf_counter_ns())
    assert {way: looks.disagreed for way, looks in honest.items()} == dict.fromkeys(honest, 0)
    assert honest[ONE_STATEMENT].looks > 0
    schema.rows("UPDATE component_parameters SET last_attempt_scan = 2 WHERE parameter_id = 3")
    torn = read_beside(settings, time.perf_counter_ns())
    for way in (ONE_STATEMENT, REPEATABLE, CONTROL):
        assert torn[way].disagreed == torn[way].looks > 0
        assert "current values 1 to 2" in torn[way].examples[0]


@pytest.mark.long
def test_part_isolation_and_its_control(postgres: str) -> None:
    section = run_part(postgres, isolation, seconds=1.0, writers=2, readers=2)
    for arm in ("baseline", "synchronizing"):
        figures = section.figures[arm]
        assert figures[CONTROL]["disagreed"] > 0
        for way in (ONE_STATEMENT, REPEATABLE):
            assert figures[way]["disagreed"] == 0
            assert figures[way]["states_seen"] > 1
        assert figures["writers"]["failures"] == {}
    assert [judgement.outcome for judgement in section.judgements] == [Outcome.PASS, Outcome.PASS]
    assert section.outcome is Outcome.PASS


@pytest.mark.long
def test_part_races_finds_nothing_and_then_what_was_planted(postgres: str) -> None:
    section = run_part(postgres, races, arms=("synchronizing", "fix_checks:Skipping"), seconds=0.8, writers=4)
    honest, planted = section.verifications["A"], section.verifications["B"]
    assert honest.violations == 0
    assert planted.checks["I2"].violations > 0
    assert section.outcome is Outcome.INVALID
    figures = section.figures["synchronizing"]
    assert figures["operator"]["voided"] > 0
    assert figures["rivals"]["stored"] > 0
    assert figures["rivals"]["claims"] > 2
    assert figures["rivals"]["failures"] == {}
    first, second = section.judgements[1], section.judgements[3]
    assert (first.outcome, second.outcome) == (Outcome.PASS, Outcome.FAIL)
