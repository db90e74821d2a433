"""Scans that the database refuses for good are kept, listed, given back and let go."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from fake_disk import FakeDisk, PowerCut
from fix_spool import KEY, OTHER, content_of, scan_of

from logger.errors import SpoolFailed
from logger.scan import StreamKey
from logger.spool import Quarantine
from plcsim.errors import InputError


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path)


def add(quarantine: Quarantine, number: int, key: StreamKey = KEY) -> str:
    return quarantine.add(key, scan_of(number, text="a text"), number + 100, "no such\nprocess", "23514")


def test_a_scan_comes_back_with_what_is_known_of_it(quarantine: Quarantine) -> None:
    name = add(quarantine, 7, OTHER)
    entry, scan = quarantine.load(name)
    assert content_of(scan) == content_of(scan_of(7, text="a text"))
    assert (entry.id, entry.key, entry.number, entry.number_in_database) == (name, OTHER, 7, 107)
    assert (entry.error, entry.sqlstate) == ("no such process", "23514")
    assert entry.quarantined_at_us > 1_700_000_000_000_000


def test_all_are_listed_in_order_also_by_another_process(quarantine: Quarantine, tmp_path: Path) -> None:
    assert quarantine.list() == []
    for key, number in ((KEY, 12), (OTHER, 1), (KEY, 9)):
        add(quarantine, number, key)
    places = [(entry.key, entry.number) for entry in Quarantine(tmp_path).list()]
    assert places == [(KEY, 9), (KEY, 12), (OTHER, 1)]
    assert quarantine.size()[0] == 3


def test_the_same_scan_again_is_one(quarantine: Quarantine) -> None:
    assert add(quarantine, 7) == add(quarantine, 7)
    assert len(quarantine.list()) == 1


def test_names_that_look_alike_do_not_meet(quarantine: Quarantine) -> None:
    names = {add(quarantine, 7, StreamKey(name)) for name in ("a/b", "a b", "a_b", "a:b")}
    assert len(names) == 4


def test_one_is_let_go(quarantine: Quarantine) -> None:
    name = add(quarantine, 7)
    quarantine.remove(name)
    assert quarantine.list() == []
    for call in (quarantine.remove, quarantine.load):
        with pytest.raises(InputError, match="not in quarantine"):
            call(name)


@pytest.mark.parametrize("name", ["../streams", "a/b", "", "nothing"])
def test_what_is_no_id_opens_no_file(quarantine: Quarantine, name: str) -> None:
    with pytest.raises(InputError, match="not in quarantine"):
        quarantine.load(name)


def test_a_damaged_one_is_named_and_the_others_stay(
    quarantine: Quarantine, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = add(quarantine, 7), add(quarantine, 8)
    path = quarantine.folder / f"{broken}.scan"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{broken}.scan: is damaged"):
        quarantine.load(broken)
    assert [entry.id for entry in quarantine.list()] == [whole]
    assert broken in caplog.text


def test_it_is_bounded_and_warns_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quarantine = Quarantine(tmp_path, max_count=5)
    for number in (1, 2, 3):
        add(quarantine, number)
    assert caplog.text == ""
    add(quarantine, 4)
    assert "80 % full" in caplog.text
    add(quarantine, 5)
    with pytest.raises(SpoolFailed, match=r"full \(5 scans"):
        add(quarantine, 6)
    add(quarantine, 5)  # is in it already
    quarantine.remove(quarantine.list()[0].id)
    add(quarantine, 6)
    with pytest.raises(SpoolFailed, match="full"):
        add(Quarantine(tmp_path, max_bytes=100), 7)


def test_a_full_disk_leaves_nothing_half() -> None:
    disk = FakeDisk()
    quarantine = Quarantine(Path("/spool"), disk)
    add(quarantine, 1)
    disk.capacity = disk._used() + 50
    with pytest.raises(OSError, match="No space") as caught:
        add(quarantine, 2)
    assert caught.value.errno == errno.ENOSPC
    disk.capacity = None
    add(quarantine, 2)
    assert [entry.number for entry in quarantine.list()] == [1, 2]


def numbers_after_cuts(honest: bool) -> list[tuple[int, list[int]]]:
    """For a power cut before each call: how many scans were added, and which are there afterwards."""
    found = []
    for call in range(1, 60):
        disk = FakeDisk(honest)
        disk.cut_at = call
        quarantine = Quarantine(Path("/spool"), disk)
        added = 0
        try:
            for number in (1, 2, 3):
                add(quarantine, number)
                added = number
        except PowerCut:
            disk.landed += 1
        if disk.landed:
            again = Quarantine(Path("/spool"), disk.after_cut(call))
            found.append((added, [entry.number for entry in again.list()]))
    return found


def test_a_power_cut_at_any_call_loses_none_that_was_added() -> None:
    found = numbers_after_cuts(honest=True)
    assert len(found) > 20
    assert all(set(numbers) >= set(range(1, added + 1)) for added, numbers in found)


def test_without_the_sync_a_power_cut_loses_some() -> None:
    found = numbers_after_cuts(honest=False)
    assert any(set(numbers) < set(range(1, added + 1)) for added, numbers in found)
