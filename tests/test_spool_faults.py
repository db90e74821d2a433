"""What a spool survives: a power cut at any call, a disk that errs, damage, kill -9; more in tests/long."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_disk import FakeDisk
from fix_spool import KEY, OTHER, SteppedSpool, number_of, scan_of, segments_of, take_all
from long import spool_corruption, spool_crash
from waiting import wait_for

from logger.errors import SpoolFailed
from logger.spool import Spool, SpoolLimits
from logger.spool.records import records_in
from logger.spool.writer import SegmentWriter

FOLDER = Path("/spool")


def test_a_power_cut_at_any_call_loses_nothing_that_was_accepted() -> None:
    found = list(spool_crash.findings(every=7, seeds=1))
    assert len(found) > 80
    assert sum(f.accepted for f in found) > 10_000
    assert sum(f.lost + f.wrong + f.numbers_again + f.anchors_lost for f in found) == 0


def test_without_the_sync_a_power_cut_loses_what_was_accepted() -> None:
    assert sum(f.lost for f in spool_crash.findings(every=101, seeds=2, honest=False)) > 0


def test_damage_costs_no_more_than_the_records_it_hits() -> None:
    found = spool_corruption.findings(seeds=120)
    assert spool_corruption.problems_in(found) == []
    assert sum(f.lost > 0 for f in found) > 60


def test_a_reader_that_stops_at_the_first_damage_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(data: bytes, segment: int, is_all: bool = True) -> object:
        at = 0
        for record in records_in(data, segment, is_all):
            if record.end - at != len(record.payload) + 24:
                return
            at = record.end
            yield record

    monkeypatch.setattr("logger.spool.segments.records_in", stopping)
    assert spool_corruption.problems_in(spool_corruption.findings(seeds=20))


def eio_at(disk: FakeDisk, call: str, which: int, times: int = 1) -> None:
    """Let that call on a segment fail, from the which-th on, so many times."""
    seen = 0

    def fail(name: str, path: Path) -> int:
        nonlocal seen
        seen += name == call and path.suffix == ".spool"
        is_now = name == call and path.suffix == ".spool" and which <= seen < which + times
        return errno.EIO if is_now else 0

    disk.fail = fail


@pytest.mark.parametrize("call", ["sync", "append"])
def test_an_error_of_the_disk_is_answered_with_a_new_segment(call: str) -> None:
    landed = 0
    for which in range(2, 12):
        disk = FakeDisk()
        eio_at(disk, call, which)
        spool = SteppedSpool(FOLDER, SpoolLimits(memory_bytes=1000), disk)
        spool.open()
        held = []
        for number in range(1, 31):
            spool.put(KEY, scan_of(number))
            spool.put(OTHER, scan_of(number))
            spool.step(with_note=True)
            held += spool.take(1, 0.0)
            if number % 3 == 0:
                spool.release([held.pop(0)])
        landed += disk.landed
        assert spool.failed is None
        assert "writing again" in spool.figures().last_error
        spool.step(with_note=True)  # of the last release
        rest = take_all(spool)
        assert [number_of(one.item) for one in (*held, *rest) if one.key == KEY][-15:] == list(range(16, 31))
        again = SteppedSpool(FOLDER, disk=disk.after_cut(which))
        again.open()
        came = [(key, number_of(item)) for key, item, _ in take_all(again)]
        assert came == [(one.key, number_of(one.item)) for one in (*held, *rest)]
        spool.release([*held, *rest])
        assert spool.figures().depth == 0
    assert landed == 10


def test_a_power_cut_after_an_error_of_the_disk_loses_nothing() -> None:
    landed = 0
    for which in range(3, 60, 7):
        total = 0
        for cut_after in range(0, 14, 2):
            disk = FakeDisk()
            eio_at(disk, "sync", which)
            run = spool_crash.Run(SteppedSpool(FOLDER, spool_crash.LIMITS, disk))
            try:
                spool_crash.drive(run, 300, which)
            except spool_crash.PowerCut:
                raise AssertionError from None
            total = disk.calls.total()
            disk = FakeDisk()
            eio_at(disk, "sync", which)
            disk.cut_at = total - cut_after * total // 14
            run = spool_crash.Run(SteppedSpool(FOLDER, spool_crash.LIMITS, disk))
            try:
                spool_crash.drive(run, 300, which)
            except spool_crash.PowerCut:
                landed += 1
            found = spool_crash.find(disk, run, which)
            assert (found.lost, found.wrong, found.numbers_again, found.anchors_lost) == (0, 0, 0, 0)
    assert landed > 40


def test_syncing_again_after_an_error_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def again_and_again(self: SegmentWriter, file: int, data: bytes, size: int) -> None:
        self._disk.append(file, data)
        with contextlib.suppress(OSError):
            self._disk.sync(file)
        self._disk.sync(file)

    monkeypatch.setattr(SegmentWriter, "_durable", again_and_again)
    lost = 0
    for which in range(3, 40):
        disk = FakeDisk()
        eio_at(disk, "sync", which)
        disk.cut_at = 3 * which + 12
        run = spool_crash.Run(SteppedSpool(FOLDER, spool_crash.LIMITS, disk))
        with pytest.raises(spool_crash.PowerCut):
            spool_crash.drive(run, 300, 1)
        lost += spool_crash.find(disk, run, 1).lost
    assert lost > 0


def test_an_error_that_stays_ends_the_spool_and_says_so() -> None:
    disk = FakeDisk()
    spool = SteppedSpool(FOLDER, disk=disk)
    spool.open()
    told: list[bool] = []
    spool.on_failure = lambda: told.append(True)
    spool.put(KEY, scan_of(1))
    spool.step()
    eio_at(disk, "sync", 1, times=99)
    spool.put(KEY, scan_of(2))
    spool.step()
    assert (str(spool.failed), told) == (
        "the spool /spool can keep no more scans: Input/output error",
        [True],
    )
    assert spool.is_full
    with pytest.raises(SpoolFailed):
        spool.flush(1.0)
    with pytest.raises(SpoolFailed):
        spool.set_offset(KEY, 5)
    assert [number_of(one.item) for one in take_all(spool)] == [1]  # and what was accepted can be stored


def test_a_folder_that_is_gone_ends_the_spool(tmp_path: Path) -> None:
    spool = SteppedSpool(tmp_path / "spool")
    spool.open()
    shutil.rmtree(tmp_path / "spool")
    spool.step(with_note=True)
    assert isinstance(spool.failed, SpoolFailed)
    spool.close()


def test_a_page_that_cannot_be_read_costs_its_records() -> None:
    disk = FakeDisk()
    spool = SteppedSpool(FOLDER, disk=disk)
    spool.open()
    for number in range(1, 201):
        spool.put(KEY, scan_of(number))
    spool.step()
    for is_healed in (False, True):
        disk = disk.after_cut(0)
        disk.bad_pages = {(disk.paths()[0], 1), (disk.paths()[0], 3)}
        again = SteppedSpool(FOLDER, disk=disk)
        again.open()
        assert disk.landed > 0
        lost = again.figures().damaged
        assert 4096 // 128 < lost < 100
        if is_healed:
            disk.bad_pages.clear()
        taken = take_all(again)
        assert len(taken) == (200 if is_healed else 200 - lost)
        again.release(taken)
        assert again.figures().depth == 0


def test_damage_that_comes_while_it_waits_is_counted_and_holds_nothing_up() -> None:
    disk = FakeDisk()
    spool = SteppedSpool(FOLDER, SpoolLimits(segment_bytes=5000, memory_bytes=500), disk)
    spool.open()
    for number in range(1, 101):
        spool.put(KEY, scan_of(number))
        spool.step()
    for path in disk.paths()[:3]:
        if path.suffix == ".spool":
            content = disk.content(path)
            content[len(content) // 2] ^= 1
            disk.landed += 1
    taken = take_all(spool)
    assert len(taken) == 100 - disk.landed
    assert spool.figures().damaged == disk.landed > 0
    spool.release(taken)
    spool.step()
    assert spool.figures().depth == 0
    assert len([path for path in disk.paths() if path.suffix == ".spool"]) == 1


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from fix_spool import KEY, scan_of
from logger.spool import Spool, SpoolLimits
spool = Spool(Path(sys.argv[1]), SpoolLimits(segment_bytes=50_000))
spool.open()
print("clean" if spool.clean else "killed", spool.next_number(KEY), flush=True)
while True:
    for _ in range(7):
        spool.put(KEY, scan_of(spool.next_number(KEY)))
    spool.flush(10)
    print(spool.next_number(KEY) - 1, flush=True)
    if spool.next_number(KEY) > 500:
        spool.release(spool.take(5, 0))
"""


def killed_after(folder: Path, is_late: Callable[[int], bool]) -> tuple[str, int, int]:
    """Kill a process that fills the spool: what it said first, its first number, the last one accepted."""
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(folder)]
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        how, first = process.stdout.readline().split()
        accepted = int(first) - 1
        for line in process.stdout:
            accepted = int(line)
            if is_late(accepted - int(first)):
                break
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                accepted = int(line)
    return how, int(first), accepted


def test_kill_9_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    accepted = 0
    for i, count in enumerate((30, 400, 900)):
        how, first, accepted = killed_after(tmp_path, lambda done, count=count: done > count)  # type: ignore[misc]
        assert how == ("killed" if i else "clean")
        assert first <= accepted
    spool = Spool(tmp_path)
    spool.open()
    assert not spool.clean
    numbers = [number_of(one.item) for one in take_all(spool)]
    assert numbers == list(range(numbers[0], spool.next_number(KEY)))
    assert numbers[0] <= spool.first_unreleased(KEY)
    assert numbers[-1] >= accepted
    assert spool.figures().damaged == 0
    spool.close()
    wait_for(lambda: segments_of(tmp_path))
