"""What goes into the next transaction: pure, checked against plain counting for many random backlogs."""

from __future__ import annotations

import random
from collections import deque

import pytest
from fix_scans import BAKING, Oven

from logger.forwarding.gathering import Lane, Limits, StreamSpec, Work, gather, halves, next_work
from logger.scan import Batch, Gap, Item, Scan, StreamKey
from logger.spool import Spooled

LIMITS = Limits(scans=4, streams=3, rows=40)  # a scan has 5 rows


def no_reason(key: StreamKey, number: int) -> str:
    return "nobody knows"


def lane_of(*items: Item, device: str = "oven-1", offset: int = 0) -> Lane:
    oven = Oven(device)
    lane = Lane(StreamSpec(StreamKey(device), oven.layout), new_from=1)
    lane.waiting.extend(Spooled(lane.key, item, None) for item in items)
    lane.next, lane.offset = 1, offset
    return lane


def test_lanes_take_turns_up_to_each_limit(oven: Oven) -> None:
    lanes = [lane_of(*oven.run_of(1, count), device=f"oven-{count}") for count in (9, 1, 2, 3)]
    ready = deque(lanes)
    works = gather(ready, LIMITS, no_reason)
    assert [(work.lane.key.device_id, len(work.items)) for work in works] == [
        ("oven-9", 4),
        ("oven-1", 1),
        ("oven-2", 2),
    ]
    assert list(ready) == lanes[3:]


def test_rows_of_a_transaction_are_bounded_and_at_least_one_scan_goes(oven: Oven) -> None:
    ready = deque(lane_of(*oven.run_of(1, 9), device=f"oven-{n}") for n in range(3))
    works = gather(ready, Limits(scans=9, streams=9, rows=60), no_reason)
    assert [work.rows for work in works] == [45, 15]
    assert [work.rows for work in gather(deque([lane_of(oven.scan(1))]), Limits(1, 1, 1), no_reason)] == [5]


@pytest.mark.parametrize(
    ("items", "covers"),
    [
        ([1, 2, 3], (1, 3)),
        ([1, (2, 4), 5], (1, 1)),
        ([(1, 4), 5], (1, 4)),
        ([3], (1, 2)),  # a gap of what is missing first
        ([1, 2, 5], (1, 2)),
    ],
)
def test_part_ends_at_a_gap(oven: Oven, items: list[int | tuple[int, int]], covers: tuple[int, int]) -> None:
    waiting = [oven.scan(item) if isinstance(item, int) else Gap(*item, "missed") for item in items]
    what = next_work(lane_of(*waiting, offset=100), 9, no_reason).what
    assert what is not None
    assert (what.first_scan - 100, what.last_scan - 100) == covers


def test_part_ends_where_a_process_does(oven: Oven) -> None:
    work = next_work(lane_of(*oven.run_of(1, 2, BAKING), *oven.run_of(3, 4)), 9, no_reason)
    assert isinstance(work.what, Batch)
    assert (work.what.process_number, work.last) == (BAKING, 2)


def test_gap_that_is_stored_in_part_goes_on_behind_it() -> None:
    lane = lane_of(Gap(1, 9, "missed", 5, 6), offset=10)
    lane.next = 4
    assert next_work(lane, 9, no_reason).what == Gap(14, 19, "missed", 5, 6)


def test_missing_numbers_are_a_gap_for_each_reason(oven: Oven) -> None:
    lane = lane_of(oven.scan(6))
    reasons = {1: "dropped", 2: "dropped", 3: "damaged", 4: "dropped", 5: "dropped"}
    found = []
    for _ in range(3):
        work = next_work(lane, 9, lambda key, number: reasons[number])
        assert work.items == ()
        found.append(work.what)
        lane.next = work.last + 1
    assert found == [Gap(1, 2, "dropped"), Gap(3, 3, "damaged"), Gap(4, 5, "dropped")]
    assert isinstance(next_work(lane, 9, no_reason).what, Batch)


def test_halves_of_halves_are_single_scans_in_their_order(oven: Oven) -> None:
    works = [
        next_work(lane_of(*oven.run_of(1, count), device=f"o-{count}"), 9, no_reason) for count in (7, 3)
    ]
    assert all(isinstance(work.what, Batch) for work in works)

    def leaves(part: list[Work]) -> list[tuple[str, int]]:
        parts = halves(part)
        if parts is None:
            (work,) = part
            assert isinstance(work.what, Batch)
            assert work.what.first_scan == work.what.last_scan == work.last
            return [(work.lane.key.device_id, work.last)]
        return [leaf for half in parts for leaf in leaves(list(half))]

    assert leaves(works) == [*(("o-7", n) for n in range(1, 8)), *(("o-3", n) for n in range(1, 4))]


def test_limits_shrink_to_one_scan_and_grow_back() -> None:
    limits = LIMITS
    for _ in range(9):
        limits = limits.halved()
    assert limits == Limits(1, 1, 1)
    for _ in range(60):
        limits = limits.grown(LIMITS)
    assert limits == LIMITS


@pytest.mark.parametrize("seed", range(30))
def test_any_backlog_goes_out_once_in_order_and_within_the_limits(oven: Oven, seed: int) -> None:
    dice = random.Random(seed)
    lanes = [lane_of(*random_items(oven, dice), device=f"oven-{n}") for n in range(6)]
    expected = {lane.key: numbers(lane) for lane in lanes}
    covered: dict[StreamKey, list[int]] = {lane.key: [] for lane in lanes}
    ready = deque(lane for lane in lanes if lane.waiting)
    while ready:
        works = gather(ready, LIMITS, no_reason)
        assert 1 <= len(works) <= LIMITS.streams
        assert sum(work.rows for work in works) <= LIMITS.rows
        for work in works:
            lane, what = work.lane, work.what
            assert what is not None
            covered[lane.key] += range(what.first_scan, what.last_scan + 1)
            lane.next = work.last + 1
            for _ in work.items:
                lane.waiting.popleft()
            if lane.waiting:
                ready.append(lane)
    assert covered == expected


def random_items(oven: Oven, dice: random.Random) -> list[Item]:
    items: list[Item] = []
    number = 1
    while number < 30:
        kind = dice.random()
        if kind < 0.1:
            items.append(Gap(number, number + 2, "missed"))
            number += 3
        elif kind < 0.2:
            number += dice.randint(1, 4)  # the spool lost some
        else:
            items.append(oven.scan(number, BAKING if number // 7 % 2 else None))
            number += 1
    return items


def numbers(lane: Lane) -> list[int]:
    """All numbers from the first to the last: scans, gaps and what is missing."""
    last = lane.waiting[-1].item
    return [*range(1, (last.number if isinstance(last, Scan) else last.last_scan) + 1)]
