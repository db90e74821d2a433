"""What is checked scan by scan: values against the truth, completeness, contiguity, the hash chain."""

from __future__ import annotations

import numpy as np
import pytest
from fix_plant import (
    ALD,
    ALD_1,
    HISTORY,
    LEDGER,
    OF_ALD_1,
    PLC_SCANS,
    POINTS,
    PRESSURE,
    PRESSURE_SETPOINT,
    Plant,
    TrueStream,
    copy_of,
    row,
    tx,
    update,
    violations,
)
from fix_postgres import Schema

from bench.oracle.stored_rows import RowReader, history_chunks
from plcsim.truth import Truth, Write

HISTORY_TAMPERED = {
    "value while idle": (update(HISTORY, "value = value + 1", row(3)), {"I4": 1, "I6": 1}),
    "value while the recipe runs": (
        update(HISTORY, "value = value + 1", row(5)),
        {"I1": 1, "I4": 1, "I6": 1},
    ),
    "newest value": (update(HISTORY, "value = value + 1", row(13)), {"I2": 1, "I4": 1, "I6": 1}),
    "smallest change of a value": (
        update(HISTORY, "value = value * (1 + 2.0^(-51))", row(3)),
        {"I4": 1, "I6": 1},
    ),
    "set value": (update(HISTORY, "set_value = set_value + 1", row(3)), {"I4": 1, "I6": 1}),
    "set value gone": (update(HISTORY, "set_value = NULL", row(3)), {"I4": 1, "I6": 1}),
    "good value called bad": (update(HISTORY, "quality = 24", row(3)), {"I4": 1, "I6": 1}),
    "bad value called good": (update(HISTORY, "quality = 192", row(9, 80)), {"I1": 1, "I4": 1, "I6": 1}),
    "bad value called bad otherwise": (update(HISTORY, "quality = 16", row(9, 80)), {"I1": 1, "I6": 1}),
    "value NULL": (update(HISTORY, "value = NULL", row(3)), {"I4": 1, "I6": 1}),
    "NaN for NULL": (update(HISTORY, "value = 'NaN'", row(9, 80)), {"I1": 1, "I4": 1, "I6": 1}),
    "time": (update(HISTORY, "recorded_at = recorded_at + interval '1us'", row(3)), {"I6": 1}),
    "newest time": (
        update(HISTORY, "recorded_at = recorded_at + interval '1us'", row(13)),
        {"I2": 1, "I6": 1},
    ),
    "time of another day": (update(HISTORY, "recorded_at = now()", row(3)), {"I1": 1, "I6": 1}),
    "row deleted": (f"DELETE FROM {HISTORY} {row(3)}", {"I1": 1, "I5": 1, "I6": 1}),
    "row twice": (copy_of(HISTORY, row(3)), {"I1": 1, "I5": 1, "I6": 1}),
    "row once more in another scan": (copy_of(HISTORY, row(3), scan="4"), {"I1": 1, "I5": 1, "I6": 1}),
    "scan deleted": (f"DELETE FROM {HISTORY} WHERE {ALD_1} AND scan = 3", {"I1": 1, "I5": 1, "I6": 1}),
    "all deleted": (
        f"DELETE FROM {HISTORY} WHERE {ALD_1}",
        {"I1": 6 + 1, "I2": 84, "I5": 11, "I6": 6},  # the process has lost its times, too
    ),
    "row under another transaction": (
        f"UPDATE {HISTORY} SET transaction_id = {tx(1)} {row(3)}",
        {"I1": 2, "I5": 1},
    ),
    "row under an unknown transaction": (
        update(HISTORY, "transaction_id = gen_random_uuid()", row(3)),
        {"I1": 2, "I5": 1},
    ),
    "row of an unknown parameter": (
        copy_of(HISTORY, row(3), parameter_id="9999"),
        {"I1": 1, "I5": 1, "I6": 1},
    ),
    "row renamed to an unknown parameter": (
        update(HISTORY, "parameter_id = 9999", row(3)),
        {"I5": 1, "I6": 1},
    ),
    "row in another stream": (update(HISTORY, "stream_id = 2", row(3)), {"I5": 2, "I6": 1}),
    "row in a stream that nobody logs": (update(HISTORY, "stream_id = 77", row(3)), {"I5": 1, "I6": 1}),
    "row of another device": (update(HISTORY, "device_id = 'other'", row(3)), {"I5": 1, "I6": 1}),
    "two scans swapped": (
        f"UPDATE {HISTORY} SET scan = 7 - scan WHERE {ALD_1} AND scan IN (3, 4)",
        {"I6": 1},
    ),
    "scans of two transactions swapped": (
        f"UPDATE {HISTORY} SET scan = 5 - scan WHERE {ALD_1} AND scan IN (2, 3)",
        {"I5": 2, "I6": 2},
    ),
    "scan behind the last": (copy_of(HISTORY, row(13), scan="14"), {"I1": 1, "I2": 1, "I5": 1}),
    "scans behind the last, of nobody": (
        copy_of(HISTORY, f"{OF_ALD_1} AND scan > 11", scan="scan + 9", transaction_id="gen_random_uuid()"),
        {"I1": 168, "I2": 84, "I5": 2},
    ),
    "scan before the first": (copy_of(HISTORY, row(1), scan="-5"), {"I1": 1, "I5": 1, "I6": 1}),
    "row in a gap": (copy_of(HISTORY, row(6), scan="7"), {"I1": 1, "I5": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", HISTORY_TAMPERED)
def test_tampered_history_is_noticed(plant: Plant, case: str) -> None:
    statement, expected = HISTORY_TAMPERED[case]
    plant.tamper(statement)
    assert violations(plant.verify()) == expected


def of_one(*tables: str, first_scan: int) -> list[str]:
    return [f"DELETE FROM {table} WHERE transaction_id = {tx(first_scan)}" for table in tables]


LEDGER_TAMPERED = {
    "transaction deleted": (of_one(LEDGER, HISTORY, first_scan=3), {"I3": 1, "I6": 1}),
    "transaction of a process deleted": (
        of_one(LEDGER, HISTORY, POINTS, first_scan=5),
        {"I1": 1, "I3": 1, "I6": 1},  # the process began in it
    ),
    "last transaction deleted": (
        of_one(LEDGER, HISTORY, first_scan=13),
        {"I1": 1, "I2": 84, "I3": 1, "I6": 1},  # the process ended in it
    ),
    "transaction deleted from the ledger alone": (
        of_one(LEDGER, first_scan=3),
        {"I1": 1, "I3": 1, "I5": 2, "I6": 2},
    ),
    "gap deleted from the ledger": (of_one(LEDGER, "scan_gaps", first_scan=7), {"I3": 1, "I6": 1}),
    "history rows counted otherwise": ([("history_rows = 167", 3)], {"I1": 1}),
    "process rows counted otherwise": ([("process_rows = 84", 5)], {"I1": 1}),
    "no rows counted": ([("history_rows = 0", 3)], {"I1": 1, "I3": 1}),
    "hash": ([("hash = sha256(hash)", 3)], {"I6": 2}),  # and the next one does not link to it
    "hash before": ([("previous_hash = sha256('')", 3)], {"I6": 2}),
    "first scan": ([("first_scan = 2", 3)], {"I3": 1, "I5": 1, "I6": 1}),
    "last scan": ([("last_scan = 3", 3)], {"I3": 1, "I5": 1, "I6": 2}),
    "last scan far away": ([("last_scan = 1000000000000", 13)], {"I3": 1, "I5": 10**12 - 13, "I6": 1}),
    "last scan before the first": ([("last_scan = 1", 3)], {"I3": 2, "I5": 2, "I6": 2}),
    "scans below zero": ([("first_scan = -9, last_scan = -8", 1)], {"I1": 0, "I3": 2, "I5": 4, "I6": 2}),
    "process gone": ([("process_id = NULL", 10)], {"I1": 3, "I6": 1}),
    "process of another stream": (
        [("process_id = (SELECT process_id FROM process_executions WHERE stream_id = 2)", 10)],
        {"I1": 4, "I6": 1},
    ),
    "transaction id": ([("transaction_id = gen_random_uuid()", 3)], {"I1": 2, "I5": 2, "I6": 1}),
    "stream": ([("stream_id = 9", 3)], {"I3": 3, "I5": 4, "I6": 4}),
    "device": ([("device_id = 'nobody'", 3)], {"I3": 1, "I4": 1, "I5": 2, "I6": 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", LEDGER_TAMPERED)
def test_a_tampered_ledger_is_noticed(plant: Plant, case: str) -> None:
    changes, expected = LEDGER_TAMPERED[case]
    statements = [
        change
        if isinstance(change, str)
        else f"UPDATE {LEDGER} SET {change[0]} WHERE transaction_id = {tx(change[1])}"
        for change in changes
    ]
    plant.tamper(*statements)
    assert violations(plant.verify()) == {name: count for name, count in expected.items() if count}


TRUTH = Truth(ALD)
GROUP = [p.parameter_id for p in ALD.register_map.parameters if p.group == "process_values"]
"""Parameters of one request; the first is its PLC scan counter."""


def differing(plc_scan: int, other: int) -> set[int]:
    """Parameters of the group whose true values differ, the counter left out."""
    here, there = TRUTH.values_at(np.array([plc_scan, other]))
    columns = [ALD.register_map.index_of(parameter) for parameter in GROUP[1:]]
    return {ALD.register_map.parameters[i].parameter_id for i in columns if here[i] != there[i]}


def test_a_wrong_value_is_told_with_what_was_true(plant: Plant) -> None:
    plant.tamper(update(HISTORY, "value = 123.5", row(3)))
    (example,) = plant.verify().checks["I4"].examples
    true = TRUTH.value_at(PRESSURE, PLC_SCANS[2])
    assert example.startswith("ald-1, stream 1: chamber.pressure in scan 3: stored 123.5 ")
    assert example.endswith(f"truth {true} at PLC scan 18")


@pytest.mark.parametrize("other", [19, 17, 20, 0])
def test_a_wrong_scan_counter_makes_its_group_untrue(plant: Plant, other: int) -> None:
    plant.tamper(f"UPDATE {HISTORY} SET value = {other} {row(3, GROUP[0])}")
    expected = len(differing(18, other))
    assert expected > 10
    assert violations(plant.verify()) == {"I4": expected, "I6": 1}


@pytest.mark.parametrize(
    "counter", ["NULL", "'NaN'", "'Infinity'", "'-Infinity'", "-1", "18.5", "1e300", "2^32"]
)
def test_a_scan_counter_that_is_none_tells_no_truth(plant: Plant, counter: str) -> None:
    plant.tamper(f"UPDATE {HISTORY} SET value = {counter} {row(3, GROUP[0])}")
    verification = plant.verify()
    assert violations(verification) == {"I4": len(GROUP), "I6": 1}
    assert "truth unknown" in verification.checks["I4"].examples[0]


def test_half_a_group_from_another_plc_scan_is_torn(plant: Plant) -> None:
    half = set(GROUP[len(GROUP) // 2 :])
    of_scan_4 = f"(SELECT parameter_id, value FROM {HISTORY} {OF_ALD_1} AND scan = 4) other"
    plant.tamper(
        f"UPDATE {HISTORY} h SET value = other.value FROM {of_scan_4} {OF_ALD_1} AND scan = 3"
        f" AND h.parameter_id = other.parameter_id AND h.parameter_id = ANY(ARRAY{sorted(half)})"
    )
    found = violations(plant.verify())
    assert found["I4"] >= len(differing(18, 19) & half) > 3  # and set values beside them
    assert found["I6"] == 1


def test_the_plants_hash_chain_is_what_the_format_says(plant: Plant) -> None:
    before = plant.schema.rows(f"SELECT transaction_id, hash FROM {LEDGER} ORDER BY 1")
    plant.rehash()
    assert plant.schema.rows(f"SELECT transaction_id, hash FROM {LEDGER} ORDER BY 1") == before


FORGED = {
    "value": ([update(HISTORY, "value = value + 1", row(3))], {"I4": 1}),
    "set value": ([update(HISTORY, "set_value = set_value + 1", row(3))], {"I4": 1}),
    "value NULL": ([update(HISTORY, "value = NULL, quality = 24", row(3, GROUP[0]))], {"I4": len(GROUP) - 1}),
    "row deleted": ([f"DELETE FROM {HISTORY} {row(3)}"], {"I1": 1, "I5": 1}),
    "row deleted and not counted": (
        [
            f"DELETE FROM {HISTORY} {row(3)}",
            f"UPDATE {LEDGER} SET history_rows = 167 WHERE transaction_id = {tx(3)}",
        ],
        {"I5": 1},
    ),
    "transaction deleted": (of_one(LEDGER, HISTORY, first_scan=3), {"I3": 1}),
    "process not recorded": (
        [
            f"DELETE FROM {POINTS} WHERE transaction_id = {tx(10)}",
            f"UPDATE {LEDGER} SET process_id = NULL, process_rows = 0 WHERE transaction_id = {tx(10)}",
        ],
        {"I1": 2},  # its scans show it running; and it did not end then
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_hash_chain_does_not_hide_it(plant: Plant, case: str) -> None:
    statements, expected = FORGED[case]
    plant.tamper(*statements)
    plant.rehash()
    assert violations(plant.verify()) == expected


WRITTEN = [Write(22, PRESSURE_SETPOINT, 0.95), Write(26, PRESSURE_SETPOINT, 2.5)]


def test_written_set_values_are_true_with_the_journal_and_wrong_without(schema: Schema) -> None:
    TrueStream(schema, ALD, writes=WRITTEN).store(21, 22, 23, 25, 26, 27, 28)
    plant = Plant(schema)
    assert violations(plant.verify(WRITTEN)) == {}
    # the set value and what follows it, from PLC scan 23 on
    assert violations(plant.verify()) == {"I4": 2 * 5}
    assert violations(plant.verify(WRITTEN[:1])) == {"I4": 2 * 2}


@pytest.mark.parametrize(
    ("shown", "is_right"), [(0.8, True), (1.5, True), (2.5, True), (0.95, False), (3.0, False)]
)
def test_the_plc_scan_of_a_write_may_show_what_was_and_each_value_written(
    schema: Schema, shown: float, is_right: bool
) -> None:
    writes = [Write(25, PRESSURE_SETPOINT, 1.5), Write(25, PRESSURE_SETPOINT, 2.5)]
    stream = TrueStream(schema, ALD, writes=writes)
    stream.store(24)
    stream.store(25, values={PRESSURE_SETPOINT: float(np.float32(shown))})
    stream.store(26)
    found = violations(Plant(schema).verify(writes))
    assert found == ({} if is_right else {"I4": 1})


def test_a_journal_may_name_parameters_that_another_device_has(schema: Schema) -> None:
    TrueStream(schema, ALD).store(20, 21, 22)
    assert violations(Plant(schema).verify([Write(20, 4711, 5.0)])) == {}


@pytest.mark.parametrize("chunk_rows", [1, 2, 83, 84, 85, 168, 169, 924, 925, 926])
def test_scans_come_whole_from_chunks_that_end_anywhere(logged: Plant, chunk_rows: int) -> None:
    connection = logged.schema.connect()
    with connection.transaction():
        chunks = list(history_chunks(connection, "ald-1", 2, chunk_rows))
        reader = RowReader(history_chunks(connection, "ald-1", 1, chunk_rows))
        sizes = [len(reader.up_to(scan)) for scan in (2, 4, 6, 8, 9, 12)]
        assert sizes == [168, 168, 168, 0, 84, 252]
        assert (reader.scans_left(), reader.read) == (1, 11 * 84)
    assert sum(len(chunk) for chunk in chunks) == 168
    assert all(len(chunk) <= chunk_rows for chunk in chunks)
    rows = np.concatenate(chunks)
    assert rows["parameter_id"].tolist() == [*range(1, 85), *range(1, 85)]
    assert set(rows["scan"]) == {1, 2}


def test_a_stream_without_rows_is_one_empty_chunk(logged: Plant) -> None:
    connection = logged.schema.connect()
    assert [len(chunk) for chunk in history_chunks(connection, "nobody", 1)] == [0]
