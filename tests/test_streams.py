"""The hash chain: what a ledger row's hash covers, pinned by a second way to compute it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fix_scans import BAKING, HEAT, LAMP, Oven, recomputed_hash

from logger.scan import Batch, Gap, Quality
from logger.streams import GENESIS, StreamHead, batch_hash, gap_hash

TRANSACTION, PROCESS = UUID(int=0xA1), UUID(int=0xB2)
PREVIOUS = bytes(range(32))
GAP = Gap(5, 9, "missed: the scan before took too long")


@pytest.fixture
def batch(oven: Oven) -> Batch:
    scans = [oven.scan(3, BAKING), oven.scan(4, BAKING, {HEAT: Quality.BAD_COMMUNICATION})]
    return replace(oven.batch(*scans), transaction_id=TRANSACTION)


def rows_of(batch: Batch) -> list[Any]:
    columns = (batch.parameter_id, batch.recorded_at, batch.value, batch.set_value, batch.quality)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_hash_is_what_its_description_says(batch: Batch) -> None:
    expected = recomputed_hash(PREVIOUS, 2, 3, 4, "oven-1", TRANSACTION, PROCESS, rows_of(batch))
    assert batch_hash(batch, 2, PROCESS, PREVIOUS) == expected


def test_hash_of_a_gap_is_what_its_description_says() -> None:
    expected = recomputed_hash(PREVIOUS, 2, 5, 9, "oven-1", TRANSACTION, None, reason=GAP.reason)
    assert gap_hash(GAP, "oven-1", 2, TRANSACTION, PREVIOUS) == expected


@pytest.mark.parametrize("times", [(1, 0), (0, 1), (10**15, 10**15 + 4)])
def test_hash_of_a_gap_with_times_is_what_its_description_says(times: tuple[int, int]) -> None:
    gap = replace(GAP, first_at=times[0], last_at=times[1])
    expected = recomputed_hash(PREVIOUS, 2, 5, 9, "oven-1", TRANSACTION, None, reason=GAP.reason, times=times)
    assert gap_hash(gap, "oven-1", 2, TRANSACTION, PREVIOUS) == expected
    assert expected != gap_hash(GAP, "oven-1", 2, TRANSACTION, PREVIOUS)


def test_hash_covers_texts_and_where_they_stand(batch: Batch) -> None:
    hashes = set()
    for texts in ((), ((2, "äh"),), ((3, "äh"),), ((2, "äh"), (3, "")), ((2, ""), (3, "äh"))):
        expected = recomputed_hash(
            PREVIOUS, 2, 3, 4, "oven-1", TRANSACTION, PROCESS, rows_of(batch), texts=texts
        )
        hashes.add(batch_hash(replace(batch, texts=texts), 2, PROCESS, PREVIOUS))
        assert expected in hashes
    assert len(hashes) == 5


def test_hashes_do_not_change_from_release_to_release(batch: Batch) -> None:
    assert batch_hash(batch, 2, PROCESS, PREVIOUS).hex() == (
        "2ef2410b1e567ba8b4bf8b948fa920e5f647da6518cd6b630db6b505396d8405"
    )
    assert gap_hash(GAP, "oven-1", 2, TRANSACTION, PREVIOUS).hex() == (
        "6a09c013d42a7cd7f2f5b701c142fc1c288db56892ff0f6933ee686343117d65"
    )


def changed(values: Any, index: int, value: Any) -> Any:
    copy = values.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize("index", [0, LAMP, 9])
@pytest.mark.parametrize(
    ("field", "value"),
    [("parameter_id", 99), ("recorded_at", 1), ("value", 0.5), ("set_value", 0.5), ("quality", 64)],
)
def test_any_change_of_a_row_shows(batch: Batch, field: str, index: int, value: Any) -> None:
    other = replace(batch, **{field: changed(getattr(batch, field), index, value)})
    assert batch_hash(other, 2, PROCESS, PREVIOUS) != batch_hash(batch, 2, PROCESS, PREVIOUS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device_id", "oven-2"),
        ("first_scan", 2),
        ("last_scan", 5),
        ("transaction_id", UUID(int=0xA2)),
    ],
)
def test_any_change_of_the_ledger_row_shows(batch: Batch, field: str, value: Any) -> None:
    assert batch_hash(replace(batch, **{field: value}), 2, PROCESS, PREVIOUS) != batch_hash(
        batch, 2, PROCESS, PREVIOUS
    )


def test_stream_process_and_previous_hash_are_covered(batch: Batch) -> None:
    hashes = {
        batch_hash(batch, stream, process, previous)
        for stream in (1, 2)
        for process in (None, PROCESS)
        for previous in (GENESIS, PREVIOUS)
    }
    assert len(hashes) == 8


def test_swapped_rows_show(batch: Batch) -> None:
    order = [1, 0, *range(2, 10)]
    other = replace(batch, value=batch.value[order], parameter_id=batch.parameter_id[order])
    assert batch_hash(other, 2, PROCESS, PREVIOUS) != batch_hash(batch, 2, PROCESS, PREVIOUS)


def test_every_nan_is_the_same_nan(batch: Batch) -> None:
    signalling = np.array([0x7FF0000000000001], dtype=np.uint64).view(np.float64)[0]
    other = replace(batch, value=changed(batch.value, 5 + HEAT, signalling))
    assert batch_hash(other, 2, PROCESS, PREVIOUS) == batch_hash(batch, 2, PROCESS, PREVIOUS)


def test_new_stream_stands_before_scan_one() -> None:
    assert StreamHead() == StreamHead(0, bytes(32))
