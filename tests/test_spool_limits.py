"""A spool that is full, by bytes, by age or by its disk: it blocks, or drops the oldest and says so."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from fake_disk import FakeDisk
from fix_spool import KEY, OTHER, SteppedSpool, number_of, scan_of, take_all
from waiting import wait_for_async

from logger.spool import Spool, SpoolLimits
from plcsim.errors import InputError

FOLDER = Path("/spool")
SMALL = 1 << 16


def opened(policy: str, disk: FakeDisk | None = None, max_age_s: float = 1e6) -> SteppedSpool:
    limits = SpoolLimits(SMALL, max_age_s, policy)  # type: ignore[arg-type]
    spool = SteppedSpool(FOLDER, limits, disk or FakeDisk())
    spool.open()
    return spool


def fill(spool: SteppedSpool, count: int) -> None:
    first = spool.next_number(KEY)
    for number in range(first, first + count):
        spool.put(KEY, scan_of(number))
        spool.step()


def fill_up(spool: SteppedSpool) -> int:
    """Put scans until it is full; how many."""
    count = 0
    while not spool.is_full:
        fill(spool, 1)
        count += 1
        assert count < 1000
    return count


def numbers(spool: SteppedSpool) -> list[int]:
    return [number_of(item) for _, item, _ in take_all(spool)]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"max_bytes": 1000}, "1000 bytes is too small: give 65536"),
        ({"max_age_s": 0}, "give more than 0 s"),
        ({"policy": "shrug"}, "'shrug'.*block or drop_oldest"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        SpoolLimits(**limits)  # type: ignore[arg-type]


def test_a_blocking_spool_is_full_at_its_size_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    spool = opened("block")
    count = fill_up(spool)
    assert SMALL <= spool.figures().bytes < SMALL + 1000
    assert "80 %" in caplog.text
    fill(spool, 3)  # what was being read may still come
    assert numbers(spool) == list(range(1, count + 4))
    assert spool.figures().dropped == 0


def test_a_blocking_spool_has_room_again_when_its_oldest_are_released() -> None:
    spool = opened("block")
    fill_up(spool)
    taken = take_all(spool)
    spool.release(taken[: len(taken) // 2])
    spool.step()
    assert not spool.is_full
    fill_up(spool)


def test_all_who_wait_for_room_go_on_when_there_is_some(tmp_path: Path) -> None:
    asyncio.run(wait_for_room_in(tmp_path))


async def wait_for_room_in(folder: Path) -> None:
    spool = Spool(folder, SpoolLimits(SMALL))
    spool.open()
    stop = asyncio.Event()
    await spool.wait_for_room(stop)  # returns at once
    number = 0
    while not spool.is_full:
        number += 1
        spool.put(KEY, scan_of(number, 100))
        if number % 10 == 0:
            await asyncio.to_thread(spool.flush, 10)
    spool.flush(10)
    waiting = [asyncio.create_task(spool.wait_for_room(stop)) for _ in range(5)]
    stopped = asyncio.Event()
    other = asyncio.create_task(spool.wait_for_room(stopped))
    await wait_for_async(lambda: len(spool._room._waiting) == 6)
    assert not any(task.done() for task in waiting)
    stopped.set()
    await other
    assert not any(task.done() for task in waiting)
    spool.release(take_all(spool))  # type: ignore[arg-type]
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    spool.close()


def test_dropping_makes_room_with_whole_segments_and_says_what_went() -> None:
    spool = opened("drop_oldest")
    fill(spool, 1000)
    figures, came = spool.figures(), numbers(spool)
    assert not spool.is_full
    assert figures.bytes <= SMALL
    assert figures.dropped == 1000 - len(came) > 100
    assert came == list(range(came[0], 1001))
    for missing in (1, came[0] - 1):
        assert spool.reason_missing(KEY, missing) == "dropped: the spool was full"
    assert spool.first_unreleased(KEY) == 1  # the gap is still to be recorded


def test_what_was_dropped_is_still_known_after_a_crash() -> None:
    disk = FakeDisk()
    spool = opened("drop_oldest", disk)
    fill(spool, 1000)
    for seed in range(5):
        again = SteppedSpool(FOLDER, SpoolLimits(SMALL), disk.after_cut(seed))
        again.open()
        came = numbers(again)
        assert again.first_unreleased(KEY) == 1
        assert again.reason_missing(KEY, came[0] - 1) == "dropped: the spool was full"
        assert again.figures().damaged == 0
        again.close()


def test_what_is_in_somebodys_hands_may_be_stored_although_it_was_dropped() -> None:
    spool = opened("drop_oldest")
    fill(spool, 50)
    held = spool.take(20, 0.0)
    fill(spool, 950)
    rest = take_all(spool)
    dropped = spool.figures().dropped
    assert number_of(rest[0].item) > 50
    assert spool.reason_missing(KEY, 3) == "dropped: the spool was full"  # should this run end now
    spool.release(held)
    assert spool.figures().dropped == dropped - 20
    assert spool.first_unreleased(KEY) == 21
    spool.release(rest)
    assert spool.first_unreleased(KEY) == 1001
    assert spool._streams[KEY].dropped == []
    spool.step()
    assert spool.figures().depth == 0


@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_age_is_a_limit_too(policy: str) -> None:
    spool = opened(policy, max_age_s=100.0)
    fill(spool, 10)
    spool.grow_older(3)
    fill(spool, 10)  # a segment of its own: a long age is judged by segment
    spool.grow_older(98)
    spool.step(with_note=True)
    if policy == "block":
        assert spool.is_full
        assert numbers(spool)[0] == 1
    else:
        assert not spool.is_full
        assert numbers(spool)[0] == 11
        assert spool.reason_missing(KEY, 10) == "dropped: older than 100 s"


def test_a_full_disk_keeps_what_was_accepted_and_waits() -> None:
    disk = FakeDisk()
    spool = opened("block", disk)
    fill(spool, 10)
    disk.capacity = disk._used() + 100  # in the middle of a record
    fill(spool, 2)
    assert disk.landed >= 1
    assert (spool.is_full, spool.failed, spool.figures().accepted) == (True, None, 10)
    assert "No space left" in spool.figures().last_error
    for seed in range(10):  # the half record was taken back
        again = SteppedSpool(FOLDER, disk=disk.after_cut(seed))
        again.open()
        assert numbers(again) == list(range(1, 11))
        assert again.figures().damaged == 0
    disk.capacity = None
    spool.step()
    assert (spool.is_full, spool.figures().accepted) == (False, 12)
    assert numbers(spool) == list(range(1, 13))


def test_a_disk_is_full_at_every_byte_of_a_run() -> None:
    landed = 0
    for capacity in range(200, 9000, 37):
        disk = FakeDisk()
        disk.capacity = capacity
        spool = opened("block", disk)
        for number in range(1, 31):
            spool.put(KEY, scan_of(number))
            spool.step()
        accepted = spool.accepted_of(KEY)
        landed += disk.landed > 0
        again = SteppedSpool(FOLDER, SpoolLimits(SMALL), disk.after_cut(capacity))
        again.open()
        assert set(numbers(again)) >= set(range(1, accepted + 1))
        disk.capacity = None
        spool.step(with_note=True)
        assert numbers(spool) == list(range(1, 31))
    assert landed > 100


def test_a_full_disk_drops_the_oldest_if_told_to() -> None:
    disk = FakeDisk()
    spool = opened("drop_oldest", disk)
    fill(spool, 200)
    disk.capacity = disk._used() + 100
    fill(spool, 300)
    came = numbers(spool)
    assert not spool.is_full
    assert came == list(range(came[0], 501))
    assert spool.reason_missing(KEY, came[0] - 1) == "dropped: the disk was full"


def test_a_full_disk_at_the_start_lets_what_waits_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    disk = FakeDisk()
    spool = opened("block", disk)
    fill(spool, 300)
    disk = disk.after_cut(1)
    disk.capacity = disk._used()
    again = opened("block", disk)
    assert again.is_full
    taken = take_all(again)
    assert [number_of(one.item) for one in taken] == list(range(1, 301))
    again.release(taken)
    again.step(with_note=True)
    again.step(with_note=True)
    again.put(KEY, scan_of(301))
    again.put(OTHER, scan_of(1))
    again.step(with_note=True)
    assert not again.is_full
    assert numbers(again) == [301, 1]


@pytest.mark.parametrize("tells_free", [True, False])
@pytest.mark.parametrize("policy", ["block", "drop_oldest"])
def test_a_disk_smaller_than_a_segment_has_room_when_all_is_stored(policy: str, tells_free: bool) -> None:
    """The only segment goes, though it is the newest: nothing else could make room again."""
    spool, disk = opened_on_a_small_disk(policy, tells_free)
    fill_wide(spool)
    assert "full" in spool.figures().last_error
    waiting = len(spool._incoming)
    before = take_all(spool)
    spool.release(before)
    spool.step(with_note=True)
    spool.step(with_note=True)
    assert not spool.is_full
    assert len(numbers(spool)) >= waiting
    assert spool.failed is None
    for seed in range(10):  # and nothing is given out twice, whenever it ends
        again = SteppedSpool(FOLDER, disk=disk.after_cut(seed))
        again.open()
        assert again.next_number(KEY) == spool.next_number(KEY)


def test_a_full_disk_leaves_room_for_anchors() -> None:
    """Without one nothing could be stored: the disk would stay full for ever."""
    spool, disk = opened_on_a_small_disk("block", tells_free=True)
    fill_wide(spool)
    spool.set_offset(KEY, 77)
    assert spool.is_full
    again = SteppedSpool(FOLDER, disk=disk.after_cut(3))
    again.open()
    assert (again.anchored(KEY), again.offset(KEY)) == (True, 77)


def fill_wide(spool: SteppedSpool) -> None:
    """Put scans until the disk is full, a step each."""
    for number in range(1, 1000):
        spool.put(KEY, scan_of(number, 1000))
        spool.step()
        if spool.is_full or spool.figures().dropped:
            return
    raise AssertionError("the disk is never full")


def opened_on_a_small_disk(policy: str, tells_free: bool) -> tuple[SteppedSpool, FakeDisk]:
    disk = FakeDisk()
    disk.capacity, disk.tells_free = 2 << 20, tells_free
    spool = SteppedSpool(FOLDER, SpoolLimits(policy=policy), disk)  # type: ignore[arg-type]
    spool.open()
    return spool, disk
