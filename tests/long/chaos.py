"""Half an hour of configs/chaos.yaml: every stored value is true and every hole is explained.

The judges: I1 to I6; the emulator's own journals. A good group of values must be the answer to a request that
the emulator says it answered from that PLC scan; a group without values must have a fault, a refusal or an
outage in the journals at that time, and may not last longer than that, one interval and the longest back-off.
python -m long.chaos [--count MINUTES] (with PYTHONPATH=tests)
"""

from __future__ import annotations

import argparse
import bisect
import json
import shutil
import time
from collections import Counter
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
)

from plcsim.request_journal import read_requests
from plcsim.testing import RunningFleet

CHAOS_FILE = ALD_FILE.parent / "chaos.yaml"
INTERVAL_S = 1.0
BACK_OFF_S = 5.0
"""The longest pause before the logger tries a PLC again."""
TIMEOUT_S = 1.0
SPOILING = {"refuse", "max_connections", "restart"}
"""Kinds that make a device unreachable for as long as their window is open."""

Span = tuple[float, float]


def chaos_file(place: Path) -> tuple[Path, dict[str, float]]:
    """A copy at free ports; and for how long each of its faults has its window open."""
    content = yaml.safe_load(CHAOS_FILE.read_text(encoding="utf-8"))
    entry = content["devices"][0]
    entry["port"] = free_ports(entry["count"])
    shutil.copy(ALD_FILE, place / ALD_FILE.name)
    path = place / "chaos.yaml"
    path.write_text(yaml.safe_dump(content))
    return path, {f["name"]: f.get("for_s", 0.0) for f in entry["faults"] if "name" in f}


def run(minutes: float) -> None:
    with server() as postgres, folder() as place, schema_in(postgres.conninfo) as schema:
        file, windows = chaos_file(place)
        asked = place / "asked.jsonl"
        with RunningFleet(file, 1, place / "journals", asked) as fleet:
            words = run_words(file, schema, place / "spool", "--interval", f"{INTERVAL_S}s")
            with logging(words, place / "log") as logger:
                began = time.time()
                time.sleep(minutes * 60)
                scheduled = (time.time() - began) / INTERVAL_S
                logger.terminate(20)
            landed: Counter[str] = Counter()
            for fault in fleet.faults():
                landed[str(fault["kind"])] += int(fault["landed"])
        for kind, times in sorted(landed.items()):
            figure(f"landed: {kind}", times, "times", "> 0" if minutes >= 30 else "", times > 0)
        judge(schema)
        check_numbers(schema, scheduled)
        spans = explained(place / "journals" / "faults.jsonl", windows)
        check_reads(schema, asked)
        check_holes(schema, spans)


def check_numbers(schema: Schema, scheduled: float) -> None:
    """Scheduled scans = stored scans + gaps: the numbers are one a second, and none is left out."""
    for device, last in schema.rows("SELECT device_id, last_scan FROM logging_streams WHERE stream_id > 0"):
        ok = abs(last - scheduled) <= 5
        figure(f"{device}: numbers used, of those scheduled", last - scheduled, "scans", "within 5", ok)
    gaps = schema.value("SELECT coalesce(sum(last_scan - first_scan + 1), 0) FROM scan_gaps")
    figure("scans that are gap records", gaps, "scans")


def explained(journal: Path, windows: dict[str, float]) -> dict[str, list[Span]]:
    """By device: when faults made values impossible, seconds since 1970."""
    spans: dict[str, list[Span]] = {}
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        at = datetime.fromisoformat(event["at"]).timestamp()
        lasts = windows.get(event["fault"], 0.0) if event["kind"] in SPOILING else 0.0
        spans.setdefault(event["device"], []).append((at, at + lasts))
    return {device: sorted(found) for device, found in spans.items()}


def check_reads(schema: Schema, asked: Path) -> None:
    """Each good group was answered by the emulator, from the PLC scan that is stored, at that time."""
    answered: dict[tuple[str, int], list[float]] = {}
    total = 0
    for record in read_requests(asked):
        total += 1
        if record.outcome == "reply" and "frozen-1" not in record.faults:
            at = datetime.fromisoformat(record.at).timestamp()
            answered.setdefault((record.device, record.plc_scan), []).append(at)
    rows = schema.rows(
        "SELECT device_id, value::bigint, extract(epoch FROM recorded_at)::float8"
        " FROM parameter_value_history JOIN component_parameters USING (device_id, parameter_id)"
        " WHERE name LIKE 'plc_scan%%' AND quality = 192"
    )
    strangers = 0
    for device, plc_scan, at in rows:
        times = answered.get((device, plc_scan), [])
        place = bisect.bisect_right(times, at + 0.005)
        strangers += not place or at - times[place - 1] > TIMEOUT_S + 0.5
    frozen = schema.value("SELECT 1") and sum("frozen-1" in r.faults for r in read_requests(asked))
    figure("requests in the emulator's journal", total, "")
    figure("reads that were stored", len(rows), "groups")
    name = f"of which nobody answered, beyond the {frozen} that were frozen"
    figure(name, strangers, "groups", f"<= {frozen}", strangers <= frozen)


def check_holes(schema: Schema, spans: dict[str, list[Span]]) -> None:
    """Each run of scans without some group's values lies at a fault, and ends soon after it."""
    bad = schema.rows(
        "SELECT device_id, scan, extract(epoch FROM min(recorded_at))::float8 FROM parameter_value_history"
        " WHERE value IS NULL AND quality <> 16 GROUP BY 1, 2 ORDER BY 1, 2"
    )
    strangers, longest, runs = 0, 0.0, 0
    end_of: tuple[str, int] = ("", 0)
    excused_until = 0.0
    for device, scan, at in bad:
        if (device, scan - 1) != end_of:
            runs += 1
            excused_until = 0.0
        end_of = (device, scan)
        found = spans.get(device, [])
        place = bisect.bisect_right(found, (at + TIMEOUT_S + 0.5, float("inf")))
        for began, ended in found[max(0, place - 200) : place]:
            if at - began <= ended - began + INTERVAL_S + BACK_OFF_S + TIMEOUT_S:
                excused_until = max(excused_until, ended)
        over = at - excused_until
        if over > INTERVAL_S + BACK_OFF_S + TIMEOUT_S:
            strangers += 1
        else:
            longest = max(longest, over)
    figure("scans with values missing", len(bad), f"in {runs} runs")
    none("of which no fault explains", strangers, "scans")
    figure("longest that values stayed missing after a fault ended", longest, "s", "<= 7", longest <= 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=float, default=30, help="minutes")
    run(parser.parse_args().count)
    finish()


if __name__ == "__main__":
    main()
