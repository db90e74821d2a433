"""The spool as pollers and forwarders see it: order, numbers, restarts, whose it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from fake_disk import FakeDisk
from fix_spool import KEY, OTHER, SteppedSpool, content_of, number_of, scan_of, segments_of, take_all
from waiting import wait_for

from logger.errors import SpoolFailed
from logger.scan import Gap, Scan, StreamKey
from logger.spool import Last, Spool, SpoolLimits
from logger.spool.disk import OsDisk
from plcsim.errors import InputError


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    spool.open()
    yield spool
    if spool._thread.is_alive():
        spool.close()


def again(spool: Spool, limits: SpoolLimits | None = None, target: str = "") -> Spool:
    """The same spool in its next run."""
    following = Spool(spool.folder, limits, target=target)
    following.open()
    return following


def fill(spool: Spool, first: int, last: int) -> None:
    for number in range(first, last + 1):
        spool.put(KEY, scan_of(number))
    spool.flush(10)


def test_items_come_out_once_in_the_order_in_which_they_were_put(spool: Spool) -> None:
    spool.put(KEY, scan_of(1, process=7))
    spool.put(OTHER, scan_of(1, text="a text"))
    spool.put(KEY, Gap(2, 4, "not read", 5, 6))
    spool.put(KEY, scan_of(5))
    spool.flush(10)
    taken = take_all(spool)
    assert [(key, number_of(item)) for key, item, _ in taken] == [(KEY, 1), (OTHER, 1), (KEY, 4), (KEY, 5)]
    assert content_of(taken[1].item) == content_of(scan_of(1, text="a text"))
    assert take_all(spool) == []
    assert spool.figures().depth == 4
    spool.release(taken)
    assert spool.figures().depth == 0


def test_taking_waits_for_what_is_put(spool: Spool) -> None:
    thread = threading.Timer(0.02, lambda: spool.put(KEY, scan_of(1)))
    thread.start()
    [taken] = spool.take(10, 10.0)
    assert number_of(taken.item) == 1
    thread.join()


def test_what_is_not_released_is_there_again_after_a_restart(spool: Spool) -> None:
    fill(spool, 1, 10)
    taken = take_all(spool)
    spool.release(taken[:4])
    spool.close()
    following = again(spool)
    assert following.clean
    assert following.first_unreleased(KEY) == 5
    items = [one.item for one in take_all(following)]
    assert [content_of(item) for item in items] == [content_of(scan_of(n)) for n in range(5, 11)]
    assert all(isinstance(item, Scan) and item.due_ns == 0 for item in items)  # of another run's clock
    following.close()


def test_items_are_released_in_any_order_and_count_when_all_before_them_are(spool: Spool) -> None:
    fill(spool, 1, 4)
    one, two, three, four = take_all(spool)
    for released, expected in ((two, 1), (four, 1), (one, 3), (one, 3), (three, 5)):
        spool.release([released])
        assert spool.first_unreleased(KEY) == expected
    assert spool.figures().depth == 0


def test_numbers_and_the_last_item_outlive_the_files_that_held_them(spool: Spool) -> None:
    assert (spool.next_number(KEY), spool.last(KEY), spool.first_unreleased(KEY)) == (1, None, 1)
    spool.put(KEY, scan_of(1, process=7))
    spool.put(KEY, Gap(2, 3, "not read", 1, 2))
    spool.flush(10)
    last = Last(int(scan_of(1).recorded_at.max()), 7, 3)
    for _ in range(3):
        assert (spool.next_number(KEY), spool.last(KEY)) == (4, last)
        spool.release(take_all(spool))
        spool.close()
        spool = again(spool)
        wait_for(lambda: len(segments_of(spool.folder)) == 1, what="the old segments to go")  # noqa: B023
        assert (spool.first_new(KEY), spool.first_unreleased(KEY)) == (4, 4)
    spool.close()


def test_an_anchor_is_kept(spool: Spool) -> None:
    assert (spool.anchored(KEY), spool.offset(KEY)) == (False, 0)
    before = spool.figures().syncs
    spool.set_offsets({KEY: 99, OTHER: 0})
    assert spool.figures().syncs == before + 1
    spool.set_offset(KEY, 100)
    spool.close()
    for _ in range(2):
        following = again(spool)
        assert (following.anchored(KEY), following.offset(KEY)) == (True, 100)
        assert (following.anchored(OTHER), following.offset(OTHER)) == (True, 0)
        following.close()


def test_a_number_that_came_before_is_refused(spool: Spool) -> None:
    spool.put(KEY, Gap(1, 5, "not read"))
    with pytest.raises(ValueError, match="5"):
        spool.put(KEY, scan_of(5))
    assert spool.next_number(KEY) == 6


def test_a_second_logger_is_told_who_uses_the_folder(spool: Spool) -> None:
    second = Spool(spool.folder)
    with pytest.raises(InputError, match=f"process {os.getpid()}.*--spool"):
        second.open()
    spool.close()
    again(spool).close()


@pytest.mark.parametrize("folder", ["/proc/spool", "/dev/null/spool"])
def test_a_folder_that_cannot_be_written_is_one_clear_line(folder: str) -> None:
    with pytest.raises(InputError, match=rf"^{folder}: .*--spool$"):
        Spool(Path(folder)).open()


def test_a_folder_on_a_disk_that_is_read_only_is_one_clear_line() -> None:
    for call in ("make_folder", "lock", "create"):
        disk = FakeDisk()
        disk.fail = lambda name, path, call=call: 30 if name == call else 0  # type: ignore[misc]  # EROFS
        with pytest.raises(InputError, match="Read-only file system: give"):
            SteppedSpool(Path("/spool"), disk=disk).open()
        assert disk.landed >= 1
        disk.fail = lambda name, path: 0
        SteppedSpool(Path("/spool"), disk=disk).open()  # the lock was let go


def test_a_spool_has_an_identity_of_its_own(tmp_path: Path) -> None:
    given = uuid4()
    first, second = Spool(tmp_path / "a", writer=given), Spool(tmp_path / "b")
    for spool in (first, second):
        spool.open()
        spool.close()
    assert (first.writer, first.writer != second.writer) == (given, True)
    for spool, writer in ((first, given), (second, second.writer)):
        following = Spool(spool.folder, writer=UUID(int=9))
        following.open()
        assert following.writer == writer
        following.close()


def test_a_spool_in_which_scans_wait_refuses_another_database(spool: Spool) -> None:
    spool.target = "host/a"
    fill(spool, 1, 3)
    spool.close()
    with pytest.raises(InputError, match=r"3 scans wait here for the database host/a, not host/b.*--spool"):
        again(spool, target="host/b")
    following = again(spool, target="host/a")
    following.release(take_all(following))
    following.set_offset(KEY, 55)
    following.close()
    moved = again(spool, target="host/b")
    assert (moved.next_number(KEY), moved.anchored(KEY), moved.last(KEY)) == (1, False, None)
    assert moved.writer != following.writer
    fill(moved, 1, 1)
    moved.close()
    unnamed = again(spool)  # whoever does not say which database takes what is there
    assert (unnamed.target, len(take_all(unnamed))) == ("host/b", 1)
    unnamed.close()


def test_a_spool_of_a_newer_version_is_refused() -> None:
    disk = FakeDisk()
    spool = SteppedSpool(Path("/spool"), disk=disk)
    spool.open()
    note = spool._note
    spool._writer._note = lambda is_all: note(is_all) | {"version": 2}
    spool.close()
    with pytest.raises(InputError, match="newer plclogger"):
        SteppedSpool(Path("/spool"), disk=disk.after_cut(0)).open()


def test_another_spool_goes_on_with_a_stream(spool: Spool, tmp_path: Path) -> None:
    fill(spool, 1, 8)
    spool.release(take_all(spool)[:3])
    spool.set_offset(KEY, 40)
    spool.close()
    old = again(spool)
    new = Spool(tmp_path / "new", writer=old.writer)
    new.open()
    new.adopt(KEY, old.streams()[KEY])
    with pytest.raises(ValueError, match="already"):
        new.adopt(KEY, old.streams()[KEY])
    new.flush(10)
    new.close()
    new = again(new)  # ended in the middle: nothing was copied, yet no number is given out twice
    assert (new.next_number(KEY), new.first_unreleased(KEY), new.offset(KEY)) == (9, 4, 40)
    for key, item, _ in take_all(old):
        new.put(key, item)
    new.flush(10)
    assert [number_of(one.item) for one in take_all(new)] == [4, 5, 6, 7, 8]
    assert new.last(KEY) == old.last(KEY)
    old.close()
    new.close()


def test_what_is_missing_has_a_reason(spool: Spool) -> None:
    fill(spool, 1, 2)
    spool.put(KEY, scan_of(5))
    spool.flush(10)
    spool.release(take_all(spool)[:2])
    assert spool.reason_missing(KEY, 2) == "stored before, and no longer in the database"
    assert spool.reason_missing(KEY, 3) == "never came to the spool"


def test_more_than_memory_may_hold_is_read_back_in_order(tmp_path: Path) -> None:
    limits = SpoolLimits(segment_bytes=30_000, memory_bytes=10_000)
    spool = Spool(tmp_path, limits)
    spool.open()
    fill(spool, 1, 100)
    numbers = [number_of(one.item) for one in spool.take(20, 0)]
    fill(spool, 101, 500)
    most = 0
    while part := spool.take(7, 0.0):
        numbers += [number_of(one.item) for one in part]
        most = max(most, spool._backlog._ready_bytes)
        spool.release(part)
        if len(numbers) == 300:
            fill(spool, 501, 510)
    assert numbers == list(range(1, 511))
    assert most < 2 * limits.memory_bytes
    assert spool._backlog._cursor is None  # caught up: what is put now comes from memory
    spool.close()


def test_many_threads_put_take_and_release_at_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(segment_bytes=20_000, memory_bytes=3_000))
    spool.open()
    came: dict[StreamKey, list[int]] = {StreamKey(f"device-{i}"): [] for i in range(4)}
    left = threading.Semaphore(0)
    with ThreadPoolExecutor(8) as threads:

        def put(key: StreamKey) -> None:
            for number in range(1, 501):
                spool.put(key, scan_of(number))
                if number % 50 == 0:
                    spool.flush(10)

        def take() -> None:
            while not left.acquire(blocking=False):
                taken = spool.take(17, 0.02)
                with lock:
                    for key, item, _ in taken:
                        came[key].append(number_of(item))
                spool.release(taken)

        lock = threading.Lock()
        takers = [threads.submit(take) for _ in range(3)]
        for done in [threads.submit(put, key) for key in came]:
            done.result()
        wait_for(lambda: spool.figures().depth == 0, what="all to be released")
        left.release(3)
        for taker in takers:
            taker.result()
    assert all(sorted(numbers) == list(range(1, 501)) for numbers in came.values())
    assert all(spool.first_unreleased(key) == 501 for key in came)
    assert spool.figures().damaged == 0
    spool.close()


def test_a_hung_taker_or_one_that_releases_nothing_never_holds_up_a_put(tmp_path: Path) -> None:
    limits = SpoolLimits(memory_bytes=2_000)
    spool = Spool(tmp_path, limits)
    spool.open()
    fill(spool, 1, 10)
    assert spool.take(5, 0.0)  # held for ever, as by a database that hangs
    fill(spool, 11, 2000)
    assert not spool.is_full
    assert spool.figures().depth == 2000
    spool.close()


class Gate(OsDisk):
    """A disk whose syncs hang until told."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()

    def sync(self, file: int) -> None:
        assert self.open.wait(30)
        super().sync(file)


def test_nothing_is_handed_out_before_its_sync_returned(tmp_path: Path) -> None:
    disk = Gate()
    spool = Spool(tmp_path, disk=disk)
    spool.open()
    disk.open.clear()
    spool.put(KEY, scan_of(1))
    with pytest.raises(SpoolFailed, match=r"0\.05 s"):
        spool.flush(0.05)
    assert spool.take(1, 0.0) == []
    assert spool.figures().accepted == 0
    disk.open.set()
    assert len(spool.take(1, 10.0)) == 1
    spool.close()


def test_what_gathers_goes_into_one_sync(tmp_path: Path) -> None:
    disk = Gate()
    spool = Spool(tmp_path, disk=disk)
    spool.open()
    disk.open.clear()
    before = spool.figures().syncs
    for number in range(1, 501):
        spool.put(KEY, scan_of(number))
    disk.open.set()
    spool.flush(10)
    assert spool.figures().syncs - before <= 3
    spool.close()


def test_a_closed_spool_takes_no_more(spool: Spool) -> None:
    spool.close()
    with pytest.raises(SpoolFailed, match="closed"):
        spool.put(KEY, scan_of(1))
    assert spool.take(1, 0.0) == []


def test_a_calm_spool_stays_small(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SpoolLimits(segment_bytes=20_000))
    spool.open()
    for number in range(1, 3001, 50):
        fill(spool, number, number + 49)
        spool.release(take_all(spool))
    wait_for(lambda: len(segments_of(tmp_path)) <= 2, what="the old segments to go")
    stream = spool._streams[KEY]
    held = (stream.taken, stream.dropped, spool._backlog._taken, spool._backlog._ready, spool._incoming)
    assert [len(one) for one in held] == [0] * 5
    assert np.isclose(spool.figures().oldest_age_s, 0)
    spool.close()
