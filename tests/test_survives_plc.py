"""PLCs that misbehave in every way: no value is false; and one dead of many: the others miss nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from fix_emulator import ALD_FILE
from fix_fleet import fleet_file
from fix_postgres import Schema
from long.harness import free_ports
from spoiled import one_line_for_all, takes_any_reply
from survival import check, judged, lives
from waiting import wait_for

from plcsim.request_journal import read_requests
from plcsim.testing import RunningFleet

CHAOS_FILE = ALD_FILE.parent / "chaos.yaml"
FASTER = 40
"""How much sooner and shorter what happens once is than in the profile: 8 s of refusals become 0.2 s."""
MORE = 5
"""How much more likely all else is."""
INTERVAL_S = 0.05
LATE_S = 0.5
"""How much later than due a scan can be read whose replies are delayed; a timeout is twice that."""
DEVICES, WELL, DEAD = 4, "well", "ald-001"


def chaos_file(folder: Path) -> Path:
    """The profile at free ports, its times shortened, with a machine beside it that has no fault."""
    content = yaml.safe_load(CHAOS_FILE.read_text(encoding="utf-8"))
    (entry,) = content["devices"]
    port = free_ports(DEVICES + 1)
    entry.update(port=port, count=DEVICES)
    for fault in entry["faults"]:
        for key in ("after_s", "for_s"):
            if key in fault:
                fault[key] /= FASTER
        if "probability" in fault:
            fault["probability"] *= MORE
    well = {key: value for key, value in entry.items() if key not in ("faults", "count")}
    content["devices"].append(
        {
            **well,
            "device_id": WELL,
            "seed": 9000,
            "port": port + DEVICES,
            "overrides": dict(entry["overrides"]),
        }
    )
    shutil.copy(ALD_FILE, folder / ALD_FILE.name)
    path = folder / "chaos.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def last_scan(schema: Schema, device: str) -> int:
    """0 while there is no such stream."""
    return int(
        schema.value("SELECT coalesce(max(last_scan), 0) FROM logging_streams WHERE device_id = %s", device)
    )


@pytest.mark.parametrize("is_strict", [True, False], ids=["", "control: replies that are not checked"])
def test_no_value_of_chaos_is_false_and_every_hole_is_explained(
    schema: Schema, tmp_path: Path, is_strict: bool
) -> None:
    asked = tmp_path / "asked.jsonl"
    options = ("--interval", f"{INTERVAL_S}s")
    file = chaos_file(tmp_path)
    with RunningFleet(file, 1, tmp_path / "journals", asked) as fleet:
        with lives(schema.name, tmp_path, file, schema.conninfo, *options) as run:
            life = run.start(*(() if is_strict else (takes_any_reply,)))
            wanted = (4.2 if is_strict else 2) / INTERVAL_S
            wait_for(lambda: last_scan(schema, WELL) >= wanted, 30, "scans to be stored")
            ended = life.end()
            assert ended.code == 0, ended.complaints
        landed: Counter[str] = Counter()
        for fault in fleet.faults():
            landed[str(fault["kind"])] += int(fault["landed"])
    print(f"\n{landed.total()} faults landed: {dict(+landed)}")
    assert landed.total() >= 20
    if not is_strict:
        assert judged(schema).violations > 0
        return
    check(schema)
    check_numbers(schema)
    check_holes(schema, asked)


def check_numbers(schema: Schema) -> None:
    """Scheduled scans = stored scans + gaps: every number stands where its time is, none was left out."""
    rows = schema.rows(
        "SELECT device_id, scan, extract(epoch FROM min(recorded_at))::float8 FROM parameter_value_history"
        " GROUP BY 1, 2 HAVING min(quality) = 192 ORDER BY 1, 2"
    )
    first: dict[str, tuple[int, float]] = {}
    for device, scan, at in rows:
        number, since = first.setdefault(device, (scan, at))
        assert abs((scan - number) - (at - since) / INTERVAL_S) <= LATE_S / INTERVAL_S, (device, scan)
    assert len(first) == DEVICES + 1


def check_holes(schema: Schema, asked: Path) -> None:
    """Good values are answers that the emulator gave; what is missing belongs to machines with faults."""
    answered, frozen = set(), 0
    for record in read_requests(asked):
        frozen += any(name.startswith("frozen") for name in record.faults)
        if record.outcome == "reply":
            answered.add((record.device, record.plc_scan))
    rows = schema.rows(
        "SELECT device_id, value::bigint FROM parameter_value_history"
        " JOIN component_parameters USING (device_id, parameter_id)"
        " WHERE name LIKE 'plc_scan%%' AND quality = 192"
    )
    strangers = sum(row not in answered for row in rows)
    assert len(rows) > 500
    assert strangers <= frozen, "a frozen group shows a PLC scan that nobody asked for"
    holes = dict(schema.rows(
        "SELECT device_id, count(DISTINCT scan) FROM parameter_value_history WHERE value IS NULL GROUP BY 1"
    ))  # fmt: skip
    print(f"{len(answered)} PLC scans asked for, {frozen} frozen replies; scans with holes: {holes}")
    assert WELL not in holes
    assert len(holes) == DEVICES


@pytest.mark.parametrize("is_apart", [True, False], ids=["", "control: all wait for each other"])
def test_the_others_miss_nothing_beside_a_dead_device(schema: Schema, tmp_path: Path, is_apart: bool) -> None:
    """One of 20 takes connections and requests and never answers: a timeout of 1 s, three intervals."""
    file = tmp_path / "plant.yaml"
    content = yaml.safe_load(fleet_file(tmp_path, count=20, port=free_ports(20), processes=1).read_text())
    file.write_text(yaml.safe_dump(content))
    with RunningFleet(file) as fleet:
        fleet.fault(DEAD, kind="no_reply")
        options = ("--interval", "300ms")
        with lives(schema.name, tmp_path, file, schema.conninfo, *options) as run:
            life = run.start(*(() if is_apart else (one_line_for_all,)))
            wait_for(lambda: last_scan(schema, "ald-020") >= 6, 30, "scans to be stored")
            ended = life.end()
            assert ended.code == 0
        landed = sum(int(fault["landed"]) for fault in fleet.faults(DEAD))
    missed = schema.rows("SELECT device_id, reason FROM scan_gaps WHERE device_id <> %s", DEAD)
    bad = schema.rows("SELECT DISTINCT device_id FROM parameter_value_history WHERE quality <> 192")
    print(f"\n{landed} requests were left unanswered; {len(missed)} gaps of others")
    assert landed > 0
    if not is_apart:
        assert missed
        return
    assert missed == []
    assert bad == [(DEAD,)], "only the dead device has values of bad quality"
    check(schema)
