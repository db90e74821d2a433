"""Damage to a random segment of a spool: does it start, and lose no more than the records that were hit?

python -m long.spool_corruption [--count N] flips, zeroes or cuts off bytes, once for each of N seeds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from fake_disk import FakeDisk
from fix_spool import SteppedSpool, content_of, number_of, scan_of, take_all

from logger.scan import Gap, Item, StreamKey
from logger.spool import SpoolLimits
from logger.spool.records import Kind, records_in
from logger.spool.recovery import NOTE_FILE

FOLDER = Path("/spool")
LIMITS = SpoolLimits(max_bytes=4 << 20, segment_bytes=20_000)
KEYS = [StreamKey(f"device-{i}") for i in range(4)]
TARGET = "database-1"


@dataclass(frozen=True)
class Image:
    """A spool on a disk, and what is in it."""

    disk: FakeDisk
    waiting: dict[tuple[StreamKey, int], Item]
    writer: str
    next_numbers: dict[StreamKey, int]
    is_closed: bool


@dataclass
class Finding:
    """What one damage did."""

    how: str
    touched: int
    """Items whose records it hit."""
    lost: int
    reported: int
    is_tail: bool
    """It hit the end of the newest segment, which nothing else knows of after a kill."""
    problems: list[str]


@cache
def image(is_closed: bool, records: int = 400) -> Image:
    """A spool with several segments, of which the oldest is released in part."""
    disk, dice = FakeDisk(), Random(7)
    spool = SteppedSpool(FOLDER, LIMITS, disk, TARGET)
    spool.open()
    put: dict[tuple[StreamKey, int], Item] = {}
    for i in range(records):
        key = dice.choice(KEYS)
        number = spool.next_number(key)
        item: Item = scan_of(number, 8, 7, "text" if i % 9 == 0 else "")
        if i % 25 == 0:
            item = Gap(number, number, "not read", 1, 2)
        put[key, number_of(item)] = item
        spool.put(key, item)
        if i % 4 == 0:
            spool.step()
        if i == 20:
            for offset, stream in enumerate(KEYS):
                spool.set_offset(stream, 100 + offset)
    spool.step()
    taken = spool.take(30, 0.0)
    spool.release(taken)
    for key, item, _ in taken:
        del put[key, number_of(item)]
    spool.step(with_note=True)
    spool.put(KEYS[0], scan_of(spool.next_number(KEYS[0]), 8))
    put[KEYS[0], spool.next_number(KEYS[0]) - 1] = scan_of(spool.next_number(KEYS[0]) - 1, 8)
    spool.step(with_note=True)
    next_numbers = {key: spool.next_number(key) for key in KEYS}
    if is_closed:
        spool.close()
    return Image(disk, put, spool.writer.hex, next_numbers, is_closed)


def damage(disk: FakeDisk, dice: Random) -> tuple[str, int, bool]:
    """Damage one file; how, the items that were hit, and whether it may be the end of the newest segment."""
    paths = [path for path in disk.paths() if path.suffix == ".spool" or path.name == NOTE_FILE]
    path = dice.choice(paths)
    data = disk.content(path)
    before = bytes(data)
    how = dice.choice(("flip", "zero", "truncate"))
    start = dice.randrange(len(data))
    end = len(data) if how == "truncate" else min(len(data), start + dice.choice((1, 4, 40, 600, 5000)))
    if how == "truncate":
        del data[start:]
    elif how == "zero":
        data[start:end] = bytes(end - start)
    else:
        data[start] ^= 1 << dice.randrange(8)
        end = start + 1
    touched, at = 0, 0
    if path.suffix == ".spool":
        for record in records_in(before, int(path.stem.removeprefix("segment-"))):
            touched += record.kind != Kind.NOTE and record.end > start and at < end
            at = record.end
    return f"{how} {path.name} {start}..{end}", touched, path == paths[-2]


def find(seed: int, is_closed: bool) -> Finding:
    """Damage a copy of the image, start on it, take all that comes."""
    known, dice = image(is_closed), Random(seed)
    disk = known.disk.after_cut(0)
    how, touched, is_newest = damage(disk, dice)
    spool = SteppedSpool(FOLDER, LIMITS, disk, TARGET)
    problems = []
    try:
        spool.open()
    except Exception as exc:  # noqa: BLE001 - what it must never do
        return Finding(how, touched, len(known.waiting), 0, False, [f"does not start: {exc!r}"])
    came: dict[tuple[StreamKey, int], Item] = {}
    for key, item, _ in take_all(spool):
        number = number_of(item)
        is_first = (key, number) not in came
        came[key, number] = item
        if (key, number) in known.waiting and content_of(known.waiting[key, number]) != content_of(item):
            problems.append(f"{key} {number} is not what was put")
        if not is_first:
            problems.append(f"{key} {number} came twice")
    lost = [place for place in known.waiting if place not in came]
    is_tail = is_newest and not is_closed
    if not is_tail:
        problems += _what_was_forgotten(spool, known)
        problems += [
            f"{key} {n}: no reason" for key, n in lost if "damaged" not in spool.reason_missing(key, n)
        ]
    if touched < len(lost):
        problems.append(f"{len(lost)} lost, {touched} hit")
    return Finding(how, touched, len(lost), spool.figures().damaged, is_tail, problems)


def _what_was_forgotten(spool: SteppedSpool, known: Image) -> list[str]:
    problems = []
    if spool.writer.hex != known.writer:
        problems.append("another identity")
    for i, key in enumerate(KEYS):
        if spool.offset(key) != 100 + i:
            problems.append(f"{key} is not anchored as it was")
        if spool.next_number(key) != known.next_numbers[key]:
            problems.append(f"{key} gives out {spool.next_number(key)}, not {known.next_numbers[key]}")
    return problems


def findings(seeds: int) -> list[Finding]:
    """For each seed one, every second one of a spool that was killed."""
    return [find(seed, is_closed=seed % 2 == 0) for seed in range(seeds)]


def problems_in(found: list[Finding]) -> list[str]:
    """One line for each finding that breaks the promise."""
    lines = [f"{f.how}: {problem}" for f in found for problem in f.problems]
    return lines + [
        f"{f.how}: {f.lost} lost, {f.reported} reported"
        for f in found
        if (f.reported > f.lost if f.is_tail else f.reported != f.lost)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="how many damages")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    found = findings(options.count)
    problems = problems_in(found)
    hit = sum(f.touched > 0 for f in found)
    print("\n".join(problems[:20]))
    print(f"spool_damages {len(found)} times - ok")
    print(f"spool_damages_landed {hit} times >0 {'ok' if hit else 'short'}")
    print(f"spool_items_hit {sum(f.touched for f in found)} items - ok")
    print(f"spool_items_lost {sum(f.lost for f in found)} items - ok")
    print(f"spool_promises_broken {len(problems)} times 0 {'short' if problems else 'ok'}")
    sys.exit(bool(problems) or not hit)


if __name__ == "__main__":
    main()
