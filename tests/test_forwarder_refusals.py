"""What concerns one stream, or needs a person, and must not stop the others nor the logger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from fix_forwarder import OVEN_1, SETTINGS, Start, as_logged, gaps, stored_values
from fix_postgres import Schema
from fix_scans import Oven
from waiting import wait_for

from logger.forwarding import transactions
from logger.forwarding.intake import Inbox, Intake
from logger.scan import Gap, StreamKey, Text
from logger.spool import Spool, Spooled

OVEN_2 = StreamKey("oven-2")
DAY_US = 86_400_000_000


def refuse(schema: Schema, condition: str) -> None:
    """Let the ledger refuse these rows as somebody without a right would be."""
    schema.rows(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {condition} THEN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END IF; RETURN NEW; END $$"
    )
    schema.rows(
        "CREATE TRIGGER refuse BEFORE INSERT ON logging_transactions FOR EACH ROW EXECUTE FUNCTION refuse()"
    )


def test_database_that_refuses_everything_is_waited_for_however_much_waits(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    """The memory is full, all has been tried for long: no stream is given up, for none is kept out."""
    second = Oven("oven-2")
    refuse(schema, "true")
    run = storing(oven, second, settings=replace(SETTINGS, max_held_rows=500, slow_s=0.02))
    run.put(*second.run_of(1, 2), key=OVEN_2)
    run.put(*oven.run_of(1, 600))
    run.start()
    wait_for(lambda: run.forwarder.figures().retries["configuration"] >= 25, what="many tries")
    assert run.forwarder.figures().lost == {}
    assert run.forwarder.failed is None
    schema.rows("DROP FUNCTION refuse CASCADE")
    run.until_stored()
    assert stored_values(schema) == as_logged(oven.run_of(1, 600))


def test_day_whose_partition_we_may_not_make_holds_up_its_stream_only(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def denied(connection: psycopg.Connection[Any], first_us: int, last_us: int) -> None:
        tried.append(first_us)
        connection.execute("DO $$ BEGIN RAISE EXCEPTION 'not yours' USING ERRCODE = '42501'; END $$")

    monkeypatch.setattr(transactions, "create_partitions", denied)
    second = Oven("oven-2")
    run = storing(oven, second, settings=replace(SETTINGS, slow_s=1.0))
    late = oven.scan(1)
    run.put(replace(late, recorded_at=late.recorded_at - 1000 * DAY_US))
    run.put(*second.run_of(1, 3), key=OVEN_2)
    run.start()
    wait_for(lambda: len(stored_values(schema, device="oven-2")) == 3, what="the other stream")
    for number in range(4, 8):  # each at once, though oven-1 is tried again and again
        run.put(second.scan(number), key=OVEN_2)
        wait_for(lambda: run.waits() == 1, what="the next scan of the other stream")
    assert tried
    assert run.forwarder.figures().retries["configuration"] <= 2 * len(tried) + 2
    assert "oven-1" in run.forwarder.state
    monkeypatch.undo()
    run.until_stored()
    assert len(stored_values(schema)) == 1


@pytest.mark.parametrize("told", [True, False], ids=["by prepare", "by the database"])
def test_one_refused_device_holds_up_no_other(schema: Schema, storing: Start, told: bool) -> None:
    ovens = [Oven(f"oven-{n}") for n in range(1, 6)]
    run = storing(*ovens)
    prepare = run._prepare

    def without_the_third(connection: psycopg.Connection[Any]) -> dict[str, str] | None:
        if told:  # it is there, as somebody else describes it
            prepare(connection)
            return {"oven-3": "oven-3 is there with another map"}
        everyone, run.ovens = run.ovens, {k: o for k, o in run.ovens.items() if k.device_id != "oven-3"}
        prepare(connection)
        run.ovens = everyone
        return None

    run.forwarder._writers[0]._prepare = without_the_third
    for key, oven in run.ovens.items():
        run.put(*oven.run_of(1, 2), key=key)
    run.start()
    wait_for(lambda: run.waits() <= 2, what="the others to be stored")
    wait_for(lambda: "oven-3" in run.forwarder.state, what="the state to name the device")
    assert len(stored_values(schema, device="oven-5")) == 2
    assert (run.waits(), run.forwarder.figures().reconnects) == (2, 0)


def test_second_half_of_what_is_left_for_later_is_left_too(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would not continue the stream, and cost the others their connection."""
    schema.rows("ALTER TABLE parameter_value_history ADD CONSTRAINT sane CHECK (value <> 104) NOT VALID")
    run = storing(settings=replace(SETTINGS, slow_s=0.05))

    def full(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(run.quarantine, "add", full)
    run.put(*oven.run_of(1, 4))
    run.start()
    wait_for(lambda: run.forwarder.figures().retries["poison"] >= 9, what="three tries")
    assert (run.forwarder.figures().retries["find out"], run.forwarder.figures().reconnects) == (0, 0)
    monkeypatch.undo()
    run.until_stored()
    assert [scan for scan, _ in stored_values(schema)] == [2, 3, 4]


def test_text_that_is_no_unicode_is_poison_and_ends_no_thread(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    half = "\ud83d"  # of a surrogate pair
    run = storing()
    run.put(oven.scan(1), replace(oven.scan(2), texts=(Text(2, half),)), Gap(3, 3, half), oven.scan(4))
    run.start()
    assert run.close() == 0
    assert run.forwarder.failed is None
    assert [entry.number for entry in run.quarantine.list()] == [2]
    assert [(first, last) for first, last, _ in gaps(schema)] == [(2, 2), (3, 3)]
    assert [scan for scan, _ in stored_values(schema)] == [1, 4]


def test_streams_that_are_not_stored_here_are_told_and_count_against_no_limit(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing().start()
    run.put(oven.scan(1), key=StreamKey("oven-9"))
    wait_for(lambda: run.forwarder.figures().lost, what="the stream to be told of")
    why = run.forwarder.figures().lost[StreamKey("oven-9")]
    assert "oven-9, which is not logged here" in why
    assert "log the device once more" in why
    assert run.spool._streams[StreamKey("oven-9")].is_aside
    run.put(*oven.run_of(1, 3))
    assert run.close() == 1
    assert run.forwarder.failed is None


def test_stream_that_was_taken_over_counts_against_no_limit(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing().start()
    run.put(oven.scan(1))
    run.until_stored()
    schema.rows("UPDATE logging_streams SET writer = gen_random_uuid()")
    run.put(oven.scan(2))
    wait_for(lambda: run.forwarder.figures().lost, what="the loss to be noticed")
    wait_for(lambda: run.spool._streams[OVEN_1].is_aside, what="its scans to be set aside")


class _Late(Spool):
    """Says that it is empty; something comes while the answer is on its way."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def take(self, max_items: int, timeout_s: float) -> list[Spooled]:
        self._meanwhile()
        return []


def test_answer_from_before_the_question_does_not_end_the_drain() -> None:
    """The last scans are accepted, and the end begun, while a writer hears that there is nothing."""
    intake = Intake(_Late(lambda: intake.ask_again()), {OVEN_1: Inbox()}, 10, print)
    intake.fetch(Inbox(), may_wait=False)
    assert not intake.is_dry
    still = Intake(_Late(lambda: None), {OVEN_1: Inbox()}, 10, print)
    still.fetch(Inbox(), may_wait=False)
    assert still.is_dry
