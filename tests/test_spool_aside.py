"""Streams that nobody stores in this run: what waits of them stays, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_disk import FakeDisk
from fix_spool import KEY, OTHER, SteppedSpool, number_of, scan_of, take_all

from logger.spool import SpoolLimits

FOLDER = Path("/spool")
SMALL = 1 << 16


def opened(disk: FakeDisk, max_age_s: float = 1e6) -> SteppedSpool:
    spool = SteppedSpool(FOLDER, SpoolLimits(SMALL, max_age_s, "block"), disk)
    spool.open()
    return spool


def put_until(spool: SteppedSpool, bytes_: int) -> int:
    """Put scans of OTHER, one a round; the number of the last."""
    number = spool.next_number(OTHER)
    while spool.figures().bytes < bytes_:
        spool.put(OTHER, scan_of(number))
        spool.step()
        number += 1
    return number - 1


@pytest.mark.parametrize("aside", [True, False])
def test_stream_that_is_not_stored_fills_no_spool_for_the_others(aside: bool) -> None:
    """Control: without being set aside it does, by its bytes, for ever."""
    spool = opened(FakeDisk())
    if aside:
        spool.set_aside(OTHER)
    last = put_until(spool, SMALL)
    for number in range(1, 200):  # these come and are stored
        spool.put(KEY, scan_of(number))
        spool.step()
        spool.release([each for each in take_all(spool) if each.key == KEY])
    spool.step()
    assert spool.is_full is not aside
    assert spool.figures().depth == last


@pytest.mark.parametrize("aside", [True, False])
def test_stream_that_is_not_stored_is_never_too_old_for_the_others(aside: bool) -> None:
    disk = FakeDisk()
    before = opened(disk)
    put_until(before, SMALL // 2)
    before.close()
    spool = opened(disk, max_age_s=100)
    if aside:
        spool.set_aside(OTHER)
    spool.put(KEY, scan_of(1))
    spool.step()
    spool.grow_older(1000)
    spool.release([each for each in take_all(spool) if each.key == KEY])
    spool._looked_at = float("-inf")
    spool.step()
    assert spool.is_full is not aside


def test_what_is_set_aside_is_bounded_and_what_is_left_out_is_known(caplog: pytest.LogCaptureFixture) -> None:
    disk = FakeDisk()
    spool = opened(disk)
    spool.set_aside(OTHER)
    number = 0
    for number in range(1, 2000):
        spool.put(OTHER, scan_of(number))
        spool.step()
    assert spool.figures().bytes < SMALL + 2 * spool._limits.bytes_a_segment
    kept = spool.figures().depth
    assert 0 < kept < number
    assert len(spool._backlog._taken) == len(spool._backlog._ready) == 0  # and no memory is held
    spool.close()

    again = opened(disk)
    assert again.clean
    assert again.figures().damaged == 0
    assert [number_of(item) for _, item, _ in take_all(again)] == list(range(1, kept + 1))
    assert again.next_number(OTHER) == number + 1
    assert {again.reason_missing(OTHER, n) for n in (kept + 1, number)} == {
        "dropped: the stream was not stored, and its part of the spool was full"
    }
