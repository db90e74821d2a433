"""The forwarder in calm: order, batches, many streams, draining, and what only a person can mend."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from fix_forwarder import SETTINGS, Start, as_logged, gaps, ledger, stored_values
from fix_postgres import Schema
from fix_proxy import Proxy
from fix_scans import BAKING, Oven
from waiting import wait_for

from logger.errors import DatabaseRefused
from logger.repositories import BaselineRepository
from logger.scan import Gap, StreamKey


def refuse_all(schema: Schema, code: str) -> None:
    """Let every transaction fail with this SQLSTATE."""
    schema.rows(
        "CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '{code}'; END $$"
    )
    schema.rows(
        "CREATE TRIGGER refuse_all BEFORE INSERT ON logging_transactions EXECUTE FUNCTION refuse_all()"
    )


def allow_all(schema: Schema) -> None:
    schema.rows("DROP FUNCTION refuse_all CASCADE")


def test_scans_that_wait_go_into_as_few_transactions_as_allowed(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing()
    run.put(*oven.run_of(1, 50))
    run.start()
    assert run.close() == 0
    assert ledger(schema) == [(1, 20), (21, 40), (41, 50)]
    assert run.scans_told == list(range(1, 51))
    assert all(each.started_ns < each.committed_ns for each in run.told)
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 250
    figures = run.forwarder.figures()
    assert (figures.transactions, figures.scans, figures.rows, figures.gaps) == (3, 50, 250, 0)
    assert len(figures.commits_ms) == 3


def test_transaction_ends_where_a_process_does_and_at_a_gap(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing(settings=replace(SETTINGS, max_scans=3))
    run.put(
        *oven.run_of(1, 2),
        *oven.run_of(3, 6, BAKING),
        *oven.run_of(7, 7, BAKING + 1),
        Gap(8, 11, "missed"),
        Gap(12, 12, "missed", 1_700_000_012_000_000, 1_700_000_012_000_000),
        *oven.run_of(13, 14, BAKING + 1),
    )
    run.start()
    assert run.close() == 0
    assert ledger(schema) == [(1, 2), (3, 5), (6, 6), (7, 7), (8, 11), (12, 12), (13, 14)]
    assert gaps(schema) == [(8, 11, "missed"), (12, 12, "missed")]
    assert schema.rows(
        "SELECT plc_number, first_scan, ended_at IS NULL FROM process_executions ORDER BY 2"
    ) == [(BAKING, 3, False), (BAKING + 1, 7, True)]


def test_next_run_goes_on_where_the_last_one_stopped(schema: Schema, oven: Oven, storing: Start) -> None:
    first = storing().start()
    first.put(*oven.run_of(1, 3, BAKING))
    assert first.close() == 0
    second = storing().start()
    assert second.spool.next_number(StreamKey("oven-1")) == 4
    second.put(oven.scan(4, BAKING))
    assert second.close() == 0
    assert ledger(schema)[-1][1] == 4
    assert schema.value("SELECT count(DISTINCT process_id) FROM process_data_points") == 1


def test_number_that_the_spool_does_not_have_becomes_a_gap(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing()
    run.put(oven.scan(1))
    run.spool.put(StreamKey("oven-1"), oven.scan(5))
    run.start()
    assert run.close() == 0
    ((first, last, reason),) = gaps(schema)
    assert (first, last) == (2, 4)
    assert reason
    assert as_logged([oven.scan(1), oven.scan(5)]) == stored_values(schema)


@pytest.mark.parametrize("writers", [1, 3])
def test_streams_share_transactions_and_none_waits_for_a_long_backlog(
    schema: Schema, storing: Start, writers: int
) -> None:
    ovens = [Oven(f"oven-{n}") for n in range(1, 8)]
    run = storing(*ovens, settings=replace(SETTINGS, writers=writers))
    run.put(*ovens[0].run_of(1, 200))
    for oven in ovens[1:]:
        run.put(*oven.run_of(1, 3), key=StreamKey(oven.layout.device_id))
    run.start()
    assert run.close() == 0
    for oven in ovens:
        last = 200 if oven is ovens[0] else 3
        assert stored_values(schema, device=oven.layout.device_id) == as_logged(oven.run_of(1, last))
    told = [each.key.device_id for each in run.told]
    mates = ["oven-4", "oven-7"] if writers == 3 else [f"oven-{n}" for n in range(2, 8)]
    assert max(told.index(mate) for mate in mates) < told.index("oven-1", told.index("oven-1") + 1)
    assert run.forwarder.figures().transactions == (10 if writers == 1 else 12)


def test_what_is_taken_from_the_spool_is_bounded(schema: Schema, oven: Oven, storing: Start) -> None:
    refuse_all(schema, "53100")
    run = storing(settings=replace(SETTINGS, max_held_rows=100)).start()
    run.put(*oven.run_of(1, 1500))
    wait_for(lambda: run.forwarder.figures().retries["wait"] >= 3, what="tries in vain")
    held = sum(run.forwarder.figures().backlog.values())
    assert 0 < held <= 512  # one helping
    allow_all(schema)
    assert run.close() == 0
    assert len(stored_values(schema)) == 1500


@pytest.mark.parametrize(
    ("code", "action", "state"),
    [
        ("53100", "wait", "stopped: refused by the test"),
        ("XX000", "wait", "stopped: refused by the test"),
        ("42501", "configuration", "stopped: stream 1 of oven-1: refused by the test"),
        ("25P03", "reconnect", "waiting for the database: refused by the test"),
        ("40001", "again", "waiting for the database: refused by the test"),
        ("57014", "smaller", "waiting for the database: refused by the test"),
        ("40003", "find out", "waiting for the database: refused by the test"),
    ],
)
def test_failure_that_lasts_is_told_and_tried_again_until_it_is_over(
    schema: Schema, oven: Oven, storing: Start, code: str, action: str, state: str
) -> None:
    refuse_all(schema, code)
    run = storing().start()
    run.put(*oven.run_of(1, 3))
    wait_for(lambda: run.forwarder.state == state, what=f"the state, it is {run.forwarder.state}")
    wait_for(lambda: run.forwarder.figures().retries[action] >= 2, what="another try")
    assert run.waits() == 3
    allow_all(schema)
    run.until_stored()
    assert run.forwarder.state == "storing"
    assert run.quarantine.list() == []
    assert stored_values(schema) == as_logged(oven.run_of(1, 3))


def test_tables_that_are_gone_for_a_while_lose_nothing(schema: Schema, oven: Oven, storing: Start) -> None:
    run = storing().start()
    run.put(oven.scan(1))
    run.until_stored()
    schema.rows("ALTER TABLE scan_gaps RENAME TO elsewhere")
    run.put(Gap(2, 2, "missed"), oven.scan(3))
    wait_for(lambda: "scan_gaps" in run.forwarder.state, what="the state to name the table")
    schema.rows("ALTER TABLE elsewhere RENAME TO scan_gaps")
    run.until_stored()
    assert ledger(schema) == [(1, 1), (2, 2), (3, 3)]


def test_one_stream_that_cannot_be_stored_holds_up_no_other(schema: Schema, storing: Start) -> None:
    ovens = [Oven(f"oven-{n}") for n in range(1, 4)]
    run = storing(*ovens)
    schema.rows(
        "CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.device_id = 'oven-2' THEN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END IF;"
        " RETURN NEW; END $$"
    )
    schema.rows(
        "CREATE TRIGGER refuse_one BEFORE INSERT ON logging_transactions FOR EACH ROW"
        " EXECUTE FUNCTION refuse_one()"
    )
    for oven in ovens:
        run.put(*oven.run_of(1, 3), key=StreamKey(oven.layout.device_id))
    run.start()
    wait_for(lambda: run.waits() == 3 and "oven-2" in run.forwarder.state, what="the others to be stored")
    schema.rows("DROP FUNCTION refuse_one CASCADE")
    run.until_stored()
    assert run.forwarder.state == "storing"
    assert stored_values(schema, device="oven-2") == as_logged(ovens[1].run_of(1, 3))


def test_stream_that_cannot_be_stored_does_not_fill_the_memory_for_ever(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    second = Oven("oven-2")
    run = storing(oven, second, settings=replace(SETTINGS, max_held_rows=500))
    schema.rows(
        "CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.device_id = 'oven-1' THEN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END IF;"
        " RETURN NEW; END $$"
    )
    schema.rows(
        "CREATE TRIGGER refuse_one BEFORE INSERT ON logging_transactions FOR EACH ROW"
        " EXECUTE FUNCTION refuse_one()"
    )
    run.put(*oven.run_of(1, 600))
    run.put(*second.run_of(1, 2), key=StreamKey("oven-2"))
    run.start()
    wait_for(lambda: len(stored_values(schema, device="oven-2")) == 2, what="the other stream")
    assert "cannot be stored" in run.forwarder.figures().lost[StreamKey("oven-1")]
    assert run.forwarder.failed is None
    schema.rows("DROP FUNCTION refuse_one CASCADE")
    assert run.close() == 600
    assert storing(oven, second).start().close() == 0
    assert len(stored_values(schema)) == 600


def test_database_that_cannot_be_prepared_is_tried_again(
    schema: Schema, oven: Oven, storing: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = storing()
    monkeypatch.setattr(run.forwarder._writers[0], "_prepare", refuse)
    run.put(oven.scan(1))
    run.start()
    wait_for(lambda: run.forwarder.state == "stopped: not ours", what="the state to say so")
    wait_for(lambda: run.forwarder.figures().retries["configuration"] >= 2, what="another try")
    monkeypatch.undo()
    run.until_stored()
    assert run.forwarder.state == "storing"


def refuse(connection: object) -> None:
    raise DatabaseRefused("not ours")


def test_scans_of_a_stream_that_is_not_logged_stay_in_the_spool(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    run = storing().start()
    run.put(oven.scan(1), key=StreamKey("oven-9"))
    run.put(oven.scan(1))
    assert run.close() == 1
    other = storing(Oven("oven-9"), oven).start()
    assert other.close() == 0
    assert len(stored_values(schema, device="oven-9")) == 1


def test_database_gone_at_close_gives_up_in_time_and_says_how_many_are_left(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    proxy.refuses = True
    run = storing(through=proxy).start()
    run.put(*oven.run_of(1, 5))
    before = time.monotonic()
    assert run.close(drain_s=0.3) == 5
    assert time.monotonic() - before < 3
    assert run.forwarder.failed is None  # they are in the spool: nothing has failed
    assert proxy.landed["refused"] >= 2
    proxy.refuses = False
    assert storing(through=proxy).start().close() == 0
    assert len(stored_values(schema)) == 5


def test_database_that_says_nothing_at_close_is_given_up_in_time(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    run, go_on = storing(through=proxy).start(), threading.Event()
    run.put(oven.scan(1))
    run.until_stored()

    def stall(request: bytes) -> None:
        go_on.wait(10)

    proxy.fate = stall
    run.put(oven.scan(2))
    before = time.monotonic()
    assert run.close(drain_s=0.2) == 1
    assert time.monotonic() - before < 3
    assert not any(thread.name.startswith("writer") for thread in threading.enumerate())
    go_on.set()
    assert storing().start().close() == 0
    assert stored_values(schema) == as_logged(oven.run_of(1, 2))


def test_outage_during_the_drain_is_survived(
    schema: Schema, oven: Oven, storing: Start, proxy: Proxy
) -> None:
    proxy.refuses = True
    run = storing(through=proxy).start()
    run.put(*oven.run_of(1, 5))
    left: list[int] = []
    closing = threading.Thread(target=lambda: left.append(run.close(drain_s=10)))
    closing.start()
    wait_for(lambda: proxy.landed["refused"] >= 3, what="three attempts to connect")
    proxy.refuses = False
    closing.join(10)
    assert left == [0]
    assert schema.value("SELECT last_scan FROM logging_streams") == 5


def test_forwarder_that_never_started_can_be_closed(oven: Oven, storing: Start) -> None:
    run = storing()
    run.put(oven.scan(1))
    assert run.close() == 1


def test_stream_that_is_taken_over_stops_and_the_others_go_on(
    schema: Schema, oven: Oven, storing: Start
) -> None:
    second, told = Oven("oven-2"), threading.Event()
    run = storing(oven, second).start()
    run.forwarder.on_failure = told.set
    run.put(oven.scan(1))
    run.put(second.scan(1), key=StreamKey("oven-2"))
    run.until_stored()
    schema.stream(BaselineRepository, oven.config).store(oven.batch(oven.scan(2)))
    run.put(oven.scan(2))
    run.put(second.scan(2), key=StreamKey("oven-2"))
    wait_for(lambda: run.forwarder.figures().lost, what="the loss to be noticed")
    wait_for(lambda: len(stored_values(schema, device="oven-2")) == 2, what="the other stream")
    assert "taken over by another logger" in run.forwarder.figures().lost[StreamKey("oven-1")]
    assert (run.forwarder.failed, told.is_set()) == (None, False)
    schema.stream(BaselineRepository, second.config)
    run.put(second.scan(3), key=StreamKey("oven-2"))
    assert told.wait(10)
    assert "taken over" in str(run.forwarder.failed)
    assert run.close() == 2  # still there: dropping them would have lost them
