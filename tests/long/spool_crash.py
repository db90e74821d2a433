"""A run of a spool on the fake disk, cut off before any of its calls: is all there that was accepted?

python -m long.spool_crash [--count N] cuts the power about N times, before each call alike; a disk whose
syncs do nothing is the control, which must lose something.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fake_disk import FakeDisk, PowerCut
from fix_spool import SteppedSpool, content_of, number_of, scan_of, take_all

from logger.scan import Gap, Item, StreamKey
from logger.spool import SpoolLimits

FOLDER = Path("/spool")
LIMITS = SpoolLimits(max_bytes=1 << 20, segment_bytes=12_000, memory_bytes=8_000)
KEYS = [StreamKey(f"device-{i}") for i in range(3)]


@dataclass
class Run:
    """What the caller of a spool knows when the power goes."""

    spool: SteppedSpool
    put: dict[StreamKey, dict[int, Item]] = field(default_factory=dict)
    released: dict[StreamKey, set[int]] = field(default_factory=dict)
    offsets: dict[StreamKey, int] = field(default_factory=dict)
    """Anchors that were durable."""


@dataclass
class Finding:
    """What one power cut did."""

    accepted: int = 0
    lost: int = 0
    wrong: int = 0
    """Items that came back with other content, twice, in another order, or that nobody put."""
    numbers_again: int = 0
    """Streams that would give out a number again that was accepted."""
    anchors_lost: int = 0


def drive(run: Run, records: int, seed: int) -> None:
    """Put, take, release and anchor until so many records are put; then close. The power may go any time."""
    dice, spool = Random(seed), run.spool
    spool.open()
    put = 0
    while put < records:
        for _ in range(dice.randint(1, 8)):
            key = dice.choice(KEYS)
            number = spool.next_number(key)
            item: Item = scan_of(number, 4, dice.choice((None, 7)))
            if dice.random() < 0.05:
                item = Gap(number, number + 2, "not read", 1, 2)
            run.put.setdefault(key, {})[number_of(item)] = item
            spool.put(key, item)
            put += 1
        spool.step(with_note=dice.random() < 0.1)
        if dice.random() < 0.4:
            taken = spool.take(dice.randint(1, 30), 0.0)
            for key, item, _ in taken:
                run.released.setdefault(key, set()).add(number_of(item))
            spool.release(taken)
        if dice.random() < 0.02:
            key, offset = dice.choice(KEYS), dice.randint(0, 99)
            run.offsets.pop(key, None)
            spool.set_offset(key, offset)
            run.offsets[key] = offset
    spool.close()


def cut_before(call: int, records: int = 1000, seed: int = 1, honest: bool = True) -> tuple[FakeDisk, Run]:
    """Drive a run on a new disk whose power goes before that call."""
    disk = FakeDisk(honest)
    disk.cut_at = call
    run = Run(SteppedSpool(FOLDER, LIMITS, disk))
    try:
        drive(run, records, seed)
    except PowerCut:
        disk.landed += 1
    return disk, run


def find(disk: FakeDisk, run: Run, seed: int) -> Finding:
    """Start again on what the disk kept, and compare."""
    kept = disk.after_cut(seed)
    kept.cut_at = 1 + seed % 29  # the power goes once more, mostly while it starts
    with contextlib.suppress(PowerCut):
        first = SteppedSpool(FOLDER, LIMITS, kept)
        first.open()
        first.step(with_note=True)
    again = SteppedSpool(FOLDER, LIMITS, kept.after_cut(seed))
    again.open()
    found, came = Finding(), dict[StreamKey, list[int]]()
    for key, item, _ in take_all(again):
        put = run.put.get(key, {}).get(number_of(item))
        found.wrong += put is None or content_of(put) != content_of(item)
        came.setdefault(key, []).append(number_of(item))
    for key, items in run.put.items():
        numbers = came.get(key, [])
        found.wrong += numbers != sorted(set(numbers))
        accepted = [number for number in items if number <= run.spool.accepted_of(key)]
        waiting = set(accepted) - run.released.get(key, set())
        found.accepted += len(accepted)
        found.lost += len(waiting - set(numbers))
        found.numbers_again += bool(accepted) and again.next_number(key) <= max(accepted)
    found.anchors_lost = sum(again.offset(key) != offset for key, offset in run.offsets.items())
    return found


def calls_of_a_run(records: int = 1000, seed: int = 1) -> int:
    return cut_before(1 << 60, records, seed)[0].calls.total()


def findings(every: int, seeds: int, honest: bool = True, records: int = 1000) -> Iterator[Finding]:
    """One for each call that the power is cut before and each way in which the disk may come back."""
    for call in range(1, calls_of_a_run(records) + 1, every):
        disk, run = cut_before(call, records, honest=honest)
        for seed in range(seeds):
            yield find(disk, run, call * seeds + seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2200, help="about how many power cuts")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    calls = calls_of_a_run()
    seeds = max(1, options.count // calls)
    found = list(findings(max(1, calls // options.count), seeds))
    control = list(findings(20, 1, honest=False))
    broken = {
        "accepted_lost": sum(f.lost for f in found),
        "wrong": sum(f.wrong for f in found),
        "numbers_again": sum(f.numbers_again for f in found),
        "anchors_lost": sum(f.anchors_lost for f in found),
    }
    without = sum(f.lost for f in control)
    print(f"spool_power_cuts {len(found)} times >0 {'ok' if found else 'short'}")
    for name, value in broken.items():
        print(f"spool_{name} {value} items 0 {'short' if value else 'ok'}")
    print(f"spool_lost_without_fdatasync {without} items >0 {'ok' if without else 'short'}")
    sys.exit(bool(any(broken.values()) or not without or not found))


if __name__ == "__main__":
    main()
