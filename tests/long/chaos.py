"""Half an hour of configs/chaos.yaml: every stored value is true, and every scan is stored or a recorded gap.

One half of the machines keeps failed scans as rows without values, the other as gap records. The judges:
I1 to I6 (I4: each value is what the PLC served); the emulator's own journals. A good group of values must be
the answer to a request that the emulator says it answered from that PLC scan. A hole (scans without a value,
or a gap record) must begin at a fault and be over an interval and the longest pause after it ended.
Where the machine itself stood still, which the part watches, is told and excused like a fault.
Controls: the gap records or one scan taken out, a falsified value, a journal of no faults: each must fail.
python -m long.chaos [--count MINUTES] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import bisect
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import yaml
from fix_emulator import ALD_FILE
from fix_postgres import Schema
from long.harness import (
    figure,
    finish,
    folder,
    free_ports,
    judge,
    logging,
    none,
    run_words,
    schema_in,
    server,
    until,
)

from bench.oracle.verify import verify
from logger.database import connect
from logger.reading.back_off import LONGEST_S
from plcsim.request_journal import read_requests
from plcsim.testing import RunningFleet

CHAOS_FILE = ALD_FILE.parent / "chaos.yaml"
INTERVAL_S = 1.0
TIMEOUT_S = 1.0
"""Of a response, in configs/ald.yaml: a fault that a client waits out lasts so long."""
SLACK_S = 0.5
"""Between a scan's due time and its last request, beside the timeout."""
STALL_S = 0.25
"""The machine stood still if this part's thread woke up so late."""
SPOILING = {"refuse", "max_connections", "restart"}
"""Kinds that make a device unreachable for as long as their window is open."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Found:
    """What is stored, and what the emulator says; times in seconds since 1970."""

    scans: dict[str, set[int]]
    """Numbers with history rows, by device."""
    gaps: list[tuple[str, int, int, float, float]]
    """Device, first and last number, first and last time."""
    holes: list[tuple[str, int, float]]
    """Device, number and time of each scan of which a value is missing."""
    due: dict[str, float]
    """Scans that were due between the first request in the journal and the end, by device."""
    spans: dict[str, list[Span]]
    """When faults made values impossible, by device."""


def chaos_file(place: Path) -> tuple[Path, dict[str, float]]:
    """A copy at free ports; and for how long each of its faults has its window open."""
    content = yaml.safe_load(CHAOS_FILE.read_text(encoding="utf-8"))
    entry = content["devices"][0]
    count, port = entry["count"] // 2, free_ports(entry["count"])
    shutil.copy(ALD_FILE, place / ALD_FILE.name)
    gaps = yaml.safe_load(ALD_FILE.read_text(encoding="utf-8"))
    gaps["logging"]["on_failure"] = "gap"
    (place / "gaps.yaml").write_text(yaml.safe_dump(gaps))
    content["devices"] = [
        {**entry, "count": count, "port": port, "device_id": "rows-{n}"},
        {**entry, "count": count, "port": port + count, "device_id": "gaps-{n}", "template": "gaps.yaml",
         "seed": entry["seed"] + count},
    ]  # fmt: skip
    path = place / "chaos.yaml"
    path.write_text(json.dumps(content))  # which is YAML, too, and has no aliases
    return path, {f["name"]: f.get("for_s", 0.0) for f in entry["faults"] if "name" in f}


@contextmanager
def watched_machine() -> Iterator[list[Span]]:
    """When nothing ran on this machine: a thread that wants to wake up often says when it did not."""
    stalls: list[Span] = []
    ended = threading.Event()

    def watch() -> None:
        before = time.time()
        while not ended.wait(0.02):
            now = time.time()
            if now - before > STALL_S:
                stalls.append((before, now))
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield stalls
    finally:
        ended.set()
        thread.join()


def run(minutes: float) -> None:
    with server() as postgres, folder() as place, schema_in(postgres.conninfo) as schema:
        file, windows = chaos_file(place)
        asked = place / "asked.jsonl"
        with RunningFleet(file, 1, place / "journals", asked) as fleet, watched_machine() as stalls:
            words = run_words(file, schema, place / "spool", "--interval", f"{INTERVAL_S}s")
            with logging(words, place / "log") as logger:
                end = time.monotonic() + minutes * 60
                until(
                    lambda: time.monotonic() > end or logger.process.exitcode is not None,
                    "the end", minutes * 60 + 60,
                )  # fmt: skip
                none("loggers that died of it", int(logger.process.exitcode is not None))
                ended_at = time.time()
                none("seconds over the time to end", int(logger.terminate(20) is None))
            landed: Counter[str] = Counter()
            for fault in fleet.faults():
                landed[str(fault["kind"])] += int(fault["landed"])
        for kind, times in sorted(landed.items()):
            figure(f"landed: {kind}", times, "times", "> 0" if minutes >= 30 else "", times > 0)
        figure("the machine stood still", len(stalls), f"times, {sum(e - b for b, e in stalls):.1f} s")
        judge(schema)
        found = read(schema, asked, ended_at, explained(place / "journals" / "faults.jsonl", windows, stalls))
        check_numbers(found)
        check_reads(schema, asked)
        check_holes(found)
        controls(schema, found)


def read(schema: Schema, asked: Path, ended_at: float, spans: dict[str, list[Span]]) -> Found:
    scans: dict[str, set[int]] = {}
    for device, number in schema.rows("SELECT DISTINCT device_id, scan FROM parameter_value_history"):
        scans.setdefault(device, set()).add(number)
    first: dict[str, float] = {}
    for record in read_requests(asked):
        first.setdefault(record.device, datetime.fromisoformat(record.at).timestamp())
    return Found(
        scans,
        schema.rows(
            "SELECT device_id, first_scan, last_scan, extract(epoch FROM first_at)::float8,"
            " extract(epoch FROM last_at)::float8 FROM scan_gaps WHERE stream_id > 0 ORDER BY 1, 2"
        ),
        schema.rows(
            "SELECT device_id, scan, extract(epoch FROM min(recorded_at))::float8"
            " FROM parameter_value_history WHERE value IS NULL GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        {device: (ended_at - at) / INTERVAL_S for device, at in first.items()},
        spans,
    )  # fmt: skip


def unaccounted(found: Found) -> int:
    """Scheduled scans that are neither stored nor in a gap record, and such that are both, of all devices.

    How many were due says the emulator's journal: from the first request until the end, give or take the
    scan in hand.
    """
    wrong = 0
    for device, due in found.due.items():
        stored = found.scans.get(device, set())
        gaps = {n for name, first, last, *_ in found.gaps if name == device for n in range(first, last + 1)}
        wrong += len(stored & gaps)
        numbers = stored | gaps
        wrong += len(set(range(1, max(numbers, default=0) + 1)) - numbers)
        wrong += max(0, round(abs(len(numbers) - (due + 0.5)) - 1))
    return wrong


def check_numbers(found: Found) -> None:
    """Scheduled scans = stored scans + gaps."""
    figure("scans due by the emulator's journal", sum(found.due.values()), f"of {len(found.due)} machines")
    figure("scans stored", sum(map(len, found.scans.values())), "")
    figure("scans in gap records", sum(last - first + 1 for _, first, last, *_ in found.gaps),
           f"in {len(found.gaps)}")  # fmt: skip
    none("scans that are neither, or both", unaccounted(found))


def explained(journal: Path, windows: dict[str, float], stalls: list[Span]) -> dict[str, list[Span]]:
    """By device: when faults, or the machine itself, made values impossible."""
    spans: dict[str, list[Span]] = {}
    ends: dict[tuple[str, str], float] = {}
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        device, at = event["device"], datetime.fromisoformat(event["at"]).timestamp()
        if event["kind"] in SPOILING:  # its window is open from its first hit for so long at most
            until_at = ends.setdefault((device, event["fault"]), at + windows.get(event["fault"], 0.0))
            spans.setdefault(device, []).append((at, max(at, until_at)))
        else:
            spans.setdefault(device, []).append((at, at + TIMEOUT_S))
    return {device: sorted(own + stalls) for device, own in spans.items()}


def check_reads(schema: Schema, asked: Path) -> None:
    """Each good group was answered by the emulator, from the PLC scan that is stored, at that time."""
    answered: dict[tuple[str, int], list[float]] = {}
    total = frozen = 0
    for record in read_requests(asked):
        total += 1
        is_frozen = any(name.startswith("frozen") for name in record.faults)
        frozen += is_frozen
        if record.outcome == "reply" and not is_frozen:
            at = datetime.fromisoformat(record.at).timestamp()
            answered.setdefault((record.device, record.plc_scan), []).append(at)
    rows = schema.rows(
        "SELECT device_id, value::bigint, extract(epoch FROM recorded_at)::float8"
        " FROM parameter_value_history JOIN component_parameters USING (device_id, parameter_id)"
        " WHERE name LIKE 'plc_scan%%' AND quality = 192"
    )
    strangers = sum(not was_answered(answered.get((device, scan), []), at) for device, scan, at in rows)
    figure("requests in the emulator's journal", total, "")
    figure("reads that were stored", len(rows), "groups")
    name = f"of which nobody answered, beyond the {frozen} that were frozen"
    figure(name, strangers, "groups", f"<= {frozen}", strangers <= frozen)
    moved = sum(not was_answered(answered.get((device, scan + 1), []), at) for device, scan, at in rows)
    figure("control: with every PLC scan one off", moved, "groups", f"> {frozen}", moved > frozen)


def was_answered(times: list[float], at: float) -> bool:
    """Whether one of these answers is the one that was recorded then."""
    place = bisect.bisect_right(times, at + 0.005)
    return place > 0 and at - times[place - 1] <= TIMEOUT_S + SLACK_S


def reach_of(spans: list[Span], first: float, last: float) -> float | None:
    """Until when the outage lasted that was there at the first failed scan; None: there was no fault then.

    Further faults that came before it was over, and before the longest pause after it, prolong it.
    """
    reach = None
    for began, ended in spans:
        if reach is None:
            if began <= first + TIMEOUT_S + SLACK_S and ended >= first - SLACK_S:
                reach = ended
        elif began <= min(last + TIMEOUT_S + SLACK_S, reach + INTERVAL_S + LONGEST_S):
            reach = max(reach, ended)
    return reach


def judged_holes(found: Found) -> tuple[int, int, float, float]:
    """How many holes there are, those that no fault explains or that lasted too long, the longest time that
    one lasted beyond its outage, and the longest one, seconds."""
    holes: list[tuple[str, float, float]] = [(device, at, to) for device, _, _, at, to in found.gaps]
    before: tuple[str, int] = ("", 0)
    for device, number, at in found.holes:
        if before == (device, number - 1):
            holes[-1] = (device, holes[-1][1], at)
        else:
            holes.append((device, at, at))
        before = (device, number)
    bad, over, longest = 0, 0.0, 0.0
    for device, first, last in holes:
        reach = reach_of(found.spans.get(device, []), first, last)
        longest = max(longest, last - first)
        if reach is None or last - reach > INTERVAL_S + LONGEST_S:
            bad += 1
        else:
            over = max(over, last - reach)
    return len(holes), bad, over, longest


def check_holes(found: Found) -> None:
    count, bad, over, longest = judged_holes(found)
    figure("holes: scans in a row without a value, and gap records", count, "")
    none("of which no fault explains, or that lasted too long", bad)
    most = INTERVAL_S + LONGEST_S
    figure("longest that one lasted after its fault had ended", over, "s", f"<= {most:g}", over <= most)
    figure("longest of all", longest, "s")


def controls(schema: Schema, found: Found) -> None:
    """Each judge must see what it is there for."""
    missing = unaccounted(replace(found, gaps=[]))
    figure("control: unaccounted without the gap records", missing, "scans", "> 0", missing > 0)
    device = min(found.scans)
    lost = unaccounted(replace(found, scans={**found.scans, device: found.scans[device] - {20}}))
    figure("control: unaccounted if a scan was lost", lost, "scans", "> 0", lost > 0)
    silent = judged_holes(replace(found, spans={}))[1]
    figure("control: unexplained without a fault in the journal", silent, "holes", "> 0", silent > 0)
    last = max(at for *_, at in found.holes)
    late = [
        (device, n, at + 2 * LONGEST_S + 2 * INTERVAL_S if at == last else at)
        for device, n, at in found.holes
    ]
    quiet = {name: [span for span in spans if span[1] <= last] for name, spans in found.spans.items()}
    seen = judged_holes(replace(found, holes=late, spans=quiet))[1]
    figure("control: a hole long after its fault", seen, "holes", "> 0", seen > 0)
    with connect(schema.conninfo, schema.name) as connection:
        connection.execute("SET session_replication_role = replica")  # the table lets nobody change it
        connection.execute(
            "UPDATE parameter_value_history SET value = value + 1 WHERE (device_id, scan, parameter_id) ="
            " (SELECT device_id, scan, parameter_id FROM parameter_value_history"
            "  WHERE quality = 192 AND stream_id > 0 ORDER BY 1, 2, 3 LIMIT 1)"
        )
        connection.execute("SET session_replication_role = origin")
        checks = verify(connection).checks
    for name in ("I4", "I6"):
        wrong = checks[name].violations
        figure(f"control: {name} of one falsified value", wrong, "", "> 0", wrong > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=30, help="minutes")
    run(parser.parse_args().count)
    finish()


if __name__ == "__main__":
    main()
