"""The oracle on what operators did: voids, scans inserted again, and what retention has taken out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from fix_plant import (
    ALD,
    COILS,
    CURRENT,
    GAPS,
    HISTORY,
    LEDGER,
    STREAMS,
    Plant,
    TrueStream,
    tx,
    update,
    violations,
)
from fix_postgres import WRITER, Schema
from fix_scans import BAKING, MAP, START_US, Oven

from logger.database import Retention, create_partitions, hold, maintain, register_device
from logger.database.compensation import void
from logger.database.reinsertion import reinsert
from logger.repositories import BaselineRepository, SynchronizingRepository
from logger.scan import Scan, ScanLayout, StreamKey, batch_of
from plcsim.device_file import parse_device

VOIDS, AGAIN = "compensations", "reinsertions"
OPERATORS = "WHERE stream_id = 0"


def operate(schema: Schema) -> None:
    """Scans of a machine, some of them refused and inserted again, one voided; actions 1 to 6."""
    stream, operator = TrueStream(schema, ALD), schema.connect()
    stream.store(15, 16)  # scans 1, 2: idle
    refused = stream.refuse(18)  # 3
    stream.store(19)  # 4
    refused += stream.refuse(25, 26)  # 5, 6: the recipe runs
    stream.store(40)  # 7
    stream.store(60)  # 8
    newest = schema.value(f"SELECT transaction_id FROM {LEDGER} WHERE first_scan = 8")
    void(operator, newest, "the sensor was on the bench", "J. Doe")  # action 1
    idle, *_ = reinsert(operator, refused, "J. Doe").transactions  # actions 2 (scan 3), 3 (scans 5, 6)
    void(operator, idle, "it was the wrong one", "J. Doe")  # action 4
    reinsert(operator, refused[:1], "J. Doe")  # action 5
    stream.refuse(61)  # 9


@pytest.fixture(scope="module")
def operated_once(postgres: str) -> Iterator[Plant]:
    schema = Schema(postgres, f"test_operated_{os.getpid()}")
    operate(schema)
    plant = Plant(schema)
    plant.save()
    yield plant
    schema.drop()


@pytest.fixture
def operated(operated_once: Plant) -> Iterator[Plant]:
    """What `operate` left, whole before each test."""
    yield operated_once
    operated_once.restore()


def test_what_operators_did_violates_nothing(operated: Plant) -> None:
    verification = operated.verify()
    assert violations(verification) == {}
    assert {name: check.checked for name, check in verification.checks.items()} == {
        "I1": 8 + 5,  # transactions
        "I2": 84,
        "I3": 8 + 1 + 5 + 1,  # transactions, and where each stream ends
        "I4": 84 * (5 + 4),
        "I5": 5 + 4,  # scan 3 was inserted twice
        "I6": 8 + 5,
    }
    assert operated.schema.rows(f"SELECT DISTINCT scan FROM {CURRENT}") == [(7,)]


def of(action: int) -> str:
    return f"WHERE action = {action}"


def again(scan: int, action: int) -> str:
    return f"WHERE scan = {scan} AND parameter_id = 5 AND transaction_id = {tx(action, stream=0)}"


TAMPERED = {
    # voids
    "void forgotten": (f"DELETE FROM {VOIDS} {of(1)}", {"I2": 84, "I3": 1, "I6": 1}),
    "void's reason": (update(VOIDS, "reason = 'none'", of(1)), {"I6": 1}),
    "void's author": (update(VOIDS, "voided_by = 'nobody'", of(1)), {"I6": 1}),
    "void's time": (update(VOIDS, "voided_at = voided_at + interval '1us'", of(1)), {"I6": 1}),
    "void's number": (update(VOIDS, "action = 7", of(1)), {"I3": 1}),
    "void's stream": (update(VOIDS, "stream_id = 1", of(1)), {"I3": 1}),
    "void of another device": (update(VOIDS, "device_id = 'other'", of(1)), {"I3": 1, "I6": 1}),
    "void under another ledger row": (
        update(VOIDS, "ledger_id = gen_random_uuid()", of(1)),
        {"I3": 2, "I6": 1},
    ),
    "another transaction called void": (
        update(VOIDS, f"transaction_id = {tx(7)}", of(1)),
        {"I2": 84, "I6": 1},
    ),
    "a gap called void": (update(VOIDS, f"transaction_id = {tx(9)}", of(1)), {"I2": 84, "I3": 1, "I6": 1}),
    "nothing called void": (
        update(VOIDS, "transaction_id = gen_random_uuid()", of(1)),
        {"I2": 84, "I3": 1, "I6": 1},
    ),
    "one more void": (
        f"INSERT INTO {VOIDS} SELECT {tx(7)}, device_id, 0, 6, gen_random_uuid(), reason, voided_by"
        f" FROM {VOIDS} {of(1)}",
        {"I2": 84, "I3": 1},
    ),
    "void gone from the ledger": (
        f"DELETE FROM {LEDGER} WHERE transaction_id = {tx(1, stream=0)}",
        {"I3": 2, "I6": 1},  # nor is the next one action 1
    ),
    "void called a baseline's": (
        f"UPDATE {LEDGER} SET repository = 'baseline' WHERE transaction_id = {tx(1, stream=0)}",
        {"I3": 1},
    ),
    "current value of what was voided": (
        f"UPDATE {CURRENT} c SET (current_value, scan, updated_at, transaction_id)"
        f" = (SELECT value, scan, recorded_at, transaction_id FROM {HISTORY} h WHERE h.scan = 8"
        " AND h.parameter_id = c.parameter_id) WHERE parameter_id = 5",
        {"I2": 1},
    ),
    "last attempt of what was voided": (
        f"UPDATE {CURRENT} c SET (set_value, last_attempt_scan, last_attempt_at)"
        f" = (SELECT set_value, scan, recorded_at FROM {HISTORY} h WHERE h.scan = 8"
        " AND h.parameter_id = c.parameter_id) WHERE parameter_id = 5",
        {"I2": 1},
    ),
    # scans inserted again
    "value inserted again": (update(HISTORY, "value = value + 1", again(3, 5)), {"I4": 1, "I6": 1}),
    "voided value": (update(HISTORY, "value = value + 1", again(3, 2)), {"I4": 1, "I6": 1}),
    "its time": (
        update(HISTORY, "recorded_at = recorded_at + interval '1us'", again(3, 5)),
        {"I6": 1},
    ),
    "its row deleted": (f"DELETE FROM {HISTORY} {again(3, 5)}", {"I1": 1, "I5": 1, "I6": 1}),
    "its row under the voided one": (
        f"UPDATE {HISTORY} SET transaction_id = {tx(2, stream=0)} {again(3, 5)}",
        {"I1": 2, "I5": 2, "I6": 2},
    ),
    "its row in another gap": (
        update(HISTORY, "scan = 9", again(3, 5)),
        {"I2": 1, "I5": 2, "I6": 1},
    ),
    "its process row": (
        update("process_data_points", "value = value + 1", again(5, 3)),
        {"I1": 1},
    ),
    "its record deleted": (f"DELETE FROM {AGAIN} WHERE scan = 5", {"I1": 1, "I5": 1, "I6": 1}),
    "its record of another stream": (
        update(AGAIN, "stream_id = 9", "WHERE scan = 5"),
        {"I1": 2, "I3": 1, "I5": 1, "I6": 1},
    ),
    "its record under another ledger row": (
        update(AGAIN, f"ledger_id = {tx(1, stream=0)}", "WHERE scan = 5"),
        {"I1": 1, "I3": 1, "I5": 2, "I6": 1},
    ),
    "its gap deleted": (
        [f"DELETE FROM {GAPS} WHERE first_scan = 3", f"DELETE FROM {LEDGER} WHERE transaction_id = {tx(3)}"],
        {"I3": 1, "I5": 3, "I6": 4},
    ),
    "the first one not voided": (
        [f"DELETE FROM {VOIDS} {of(4)}"],
        {"I3": 1, "I5": 1, "I6": 1},
    ),
    "action's hash": (
        f"UPDATE {LEDGER} SET hash = sha256(hash) WHERE transaction_id = {tx(3, stream=0)}",
        {"I6": 2},
    ),
    "action's process": (
        f"UPDATE {LEDGER} SET process_id = NULL WHERE transaction_id = {tx(3, stream=0)}",
        {"I1": 4, "I6": 1},
    ),
    # the operators' stream
    "stream moved back": (update(STREAMS, "last_scan = 4", OPERATORS), {"I3": 1}),
    "stream moved on": (update(STREAMS, "last_scan = 6", OPERATORS), {"I3": 1}),
    "stream's head": (update(STREAMS, "head_hash = sha256('')", OPERATORS), {"I6": 1}),
    "stream deleted": (f"DELETE FROM {STREAMS} {OPERATORS}", {"I3": 1}),
    "row in the operators' stream": (
        update(HISTORY, "stream_id = 0", "WHERE scan = 1 AND parameter_id = 5"),
        {"I5": 1, "I6": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_with_what_operators_did_is_noticed(operated: Plant, case: str) -> None:
    statements, expected = TAMPERED[case]
    operated.tamper(*([statements] if isinstance(statements, str) else statements))
    assert violations(operated.verify()) == expected


OUT = "expired_partitions"
HELD = ("parameter_value_history_2023_11_15", "process_data_points_2023_11_15")
IN_1_TO_4 = "first_scan IN (1, 3) AND stream_id = 1"


@pytest.fixture(scope="module")
def expired_once(postgres: str) -> Iterator[Plant]:
    """A machine of whose two days the first has expired: scans 1 to 4, and the last values of some coils."""
    schema = Schema(postgres, f"test_expired_{os.getpid()}")
    keeper = schema.connect()
    create_partitions(keeper, START_US, START_US + 86_400_000_000)
    stream = TrueStream(schema, ALD)
    stream.store(15, 16)  # scans 1, 2
    stream.store(25, 26)  # 3, 4: the recipe runs
    stream.miss(7000)
    stream.store(40, bad=COILS)  # the next day
    for partition in HELD:
        hold(keeper, partition, "an audit")
    maintain(keeper, schema.value("SELECT now()") + timedelta(days=60), Retention(30, drop=True))
    plant = Plant(schema)
    plant.save()
    yield plant
    schema.drop()


@pytest.fixture
def expired(expired_once: Plant) -> Iterator[Plant]:
    yield expired_once
    expired_once.restore()


def test_what_retention_has_taken_out_is_excused(expired: Plant) -> None:
    verification = expired.verify()
    assert violations(verification) == {}
    assert verification.rows == 84
    assert expired.schema.rows(f"SELECT scan, count(*) FROM {CURRENT} GROUP BY 1 ORDER BY 1") == [
        (4, len(COILS)),
        (7005, 84 - len(COILS)),
    ]


NOT_EXCUSED = {
    "nothing expired": (f"DELETE FROM {OUT}", {"I1": 2 + 1, "I2": 12, "I5": 4, "I6": 2}),
    "fewer rows expired": (update(OUT, "rows = rows - 1", "WHERE rows > 0"), {"I1": 2}),
    "more rows expired": (update(OUT, "rows = rows + 1"), {"I1": 2}),
    "expired on another day": (
        update(OUT, "from_at = from_at - interval '9d', to_at = to_at - interval '9d'"),
        {"I1": 2 + 1 + 2, "I2": 12, "I5": 4, "I6": 2},
    ),
    "not out yet": (update(OUT, "detached_at = NULL"), {"I1": 2 + 1, "I2": 12, "I5": 4, "I6": 2}),
    "another row deleted": (
        f"DELETE FROM {HISTORY} WHERE parameter_id = 5",
        {"I1": 1, "I2": 1, "I5": 1, "I6": 1},
    ),
    "a transaction moved into what expired, its rows deleted": (
        [
            f"DELETE FROM {HISTORY}",
            "DELETE FROM process_data_points",
            f"UPDATE {LEDGER} SET first_recorded_at = '2023-11-14', last_recorded_at = '2023-11-14'"
            " WHERE first_scan = 7005",
        ],
        {"I1": 2, "I2": 84},  # all that is missing is more than what expired
    ),
    "a transaction called expired": (
        f"UPDATE {LEDGER} SET first_recorded_at = '2023-11-14' WHERE first_scan = 7005",
        {"I1": 1},
    ),
    "current value of another transaction": (
        update(CURRENT, "transaction_id = gen_random_uuid() WHERE scan = 4"),
        {"I2": 12},
    ),
    "current value at another time": (
        update(CURRENT, "updated_at = '2023-11-14 01:00' WHERE scan = 4"),
        {"I2": 12},
    ),
    "link of an expired transaction": (
        f"UPDATE {LEDGER} SET hash = sha256(hash) WHERE first_scan = 1",
        {"I6": 1},
    ),
    "an expired transaction deleted": (
        f"DELETE FROM {LEDGER} WHERE first_scan = 1",
        {"I1": 1, "I3": 1, "I6": 1},
    ),
}


@pytest.mark.parametrize("case", NOT_EXCUSED)
def test_only_what_has_expired_is_excused(expired: Plant, case: str) -> None:
    statements, expected = NOT_EXCUSED[case]
    expired.tamper(*([statements] if isinstance(statements, str) else statements))
    assert violations(expired.verify()) == expected


def test_rows_of_an_expired_day_that_came_late_are_checked_as_all_others(expired: Plant) -> None:
    schema = expired.schema
    create_partitions(schema.connect(), START_US, START_US)
    schema.rows(
        f"INSERT INTO {HISTORY} (device_id, stream_id, scan, parameter_id, recorded_at, value, quality,"
        f" transaction_id) SELECT device_id, 1, 1, 5, first_recorded_at, 1, 192, transaction_id FROM {LEDGER}"
        " WHERE first_scan = 1"
    )
    assert violations(expired.verify())["I1"] == 1  # fewer are missing than have expired


def test_a_scan_that_was_read_over_midnight_may_be_half_gone(schema: Schema, oven: Oven) -> None:
    keeper, stream = schema.connect(), schema.stream(SynchronizingRepository, oven.config)
    create_partitions(keeper, START_US, START_US + 86_400_000_000)
    whole = oven.scan(6400, BAKING)  # a second after the first day's last
    recorded_at = whole.recorded_at - np.array([4, 3, 0, 0, 0])
    stream.store(batch_of([Scan(1, whole.values, whole.quality, recorded_at, BAKING)], oven.layout))
    for partition in HELD:
        hold(keeper, partition, "an audit")
    maintain(keeper, schema.value("SELECT now()") + timedelta(days=60), Retention(30, drop=True))
    plant = Plant(schema)
    assert schema.rows(f"SELECT parameter_id FROM {HISTORY} ORDER BY 1") == [(12,), (13,), (14,)]
    assert violations(plant.verify()) == {}
    plant.tamper(f"DELETE FROM {HISTORY} WHERE parameter_id = 13")
    assert violations(plant.verify()) == {"I1": 1, "I2": 1}


def test_values_outside_their_limits_must_say_so(schema: Schema) -> None:
    data = ALD.to_json()
    data["groups"][0]["parameters"][4]["limits"] = [0.0, 0.5]
    config = parse_device(data, "tight limits")
    name = config.groups[0].parameters[4].full_name
    (parameter,) = [p.parameter_id for p in config.register_map.parameters if p.full_name == name]
    TrueStream(schema, config).store(15, 16, 18)
    plant = Plant(schema)
    assert violations(plant.verify()) == {}
    qualities = f"SELECT quality, count(*) FROM {HISTORY} WHERE parameter_id = {parameter} GROUP BY 1"
    assert dict(schema.rows(qualities))[84] > 0
    shown = schema.value(f"SELECT scan FROM {CURRENT} WHERE parameter_id = {parameter}")
    assert shown == 3  # real, and usable
    plant.tamper(
        update(HISTORY, "quality = 192", f"WHERE quality = 84 AND parameter_id = {parameter} AND scan = 1")
    )
    assert violations(plant.verify()) == {"I4": 1, "I6": 1}


def test_each_poll_group_is_checked_by_its_own_parameters(schema: Schema) -> None:
    groups = [dict(group) for group in MAP["groups"]]
    groups[2]["poll"] = "slow"
    data = {**MAP, "groups": groups, "logging": {"poll_groups": {"slow": {"interval_s": 10}}}}
    oven = Oven()
    config = parse_device({"device": {"device_id": "oven-1"}, **data})
    register_device(schema.connect(), config)
    for stream_id, poll in enumerate(["", "slow"], 1):
        layout = ScanLayout(config, poll)
        repository = SynchronizingRepository(schema.connect())
        stream = repository.open(StreamKey("oven-1", stream_id), "bake", WRITER, poll)
        for number, process in ((1, None), (2, BAKING)):
            whole = oven.scan(number, process)
            columns = [list(oven.layout.parameter_ids).index(each) for each in layout.parameter_ids]
            kept = (whole.values[columns], whole.quality[columns], whole.recorded_at[columns])
            stream.store(batch_of([Scan(number, *kept, process)], layout))
    plant = Plant(schema)
    plant.save()
    assert violations(plant.verify()) == {}
    plant.tamper(update(STREAMS, "poll_group = ''", "WHERE stream_id = 2"))
    assert violations(plant.verify()) == {"I5": 2}
    plant.tamper(update(STREAMS, "poll_group = 'none'", "WHERE stream_id = 2"))
    assert violations(plant.verify()) == {"I4": 1}
    plant.restore()


def test_a_baseline_value_may_be_current_only_where_something_newer_was_voided(schema: Schema) -> None:
    TrueStream(schema, ALD).store(15)
    TrueStream(schema, ALD, kind=BaselineRepository).store(16)
    stream = TrueStream(schema, ALD)
    stream.store(18)
    plant, operator = Plant(schema), schema.connect()
    newest = schema.value(f"SELECT transaction_id FROM {LEDGER} WHERE first_scan = 3")
    void(operator, newest, "wrong", "J. Doe")
    assert schema.rows(f"SELECT DISTINCT scan FROM {CURRENT}") == [(2,)]
    assert violations(plant.verify()) == {}
    stream.store(19, bad=[5])
    assert violations(plant.verify()) == {}
    assert schema.value(f"SELECT scan FROM {CURRENT} WHERE parameter_id = 5") == 2
