"""What an operator types: `plclogger probe`, `void`, `quarantine`, `maintain`, on what was logged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import pytest
from fix_emulator import ALD_FILE, Emulator
from fix_logger import logging_into, plclogger, spool_of
from fix_postgres import Schema
from fix_spool import scan_of
from waiting import wait_for

from bench.oracle.verify import verify
from logger.scan import StreamKey
from logger.spool import Quarantine

FAST = ("--interval", "50ms", "--json")


def operate(schema: Schema, *words: object) -> CompletedProcess[str]:
    return plclogger(*words, "--database", schema.conninfo, "--schema", schema.name)


def check(schema: Schema) -> None:
    with schema.connect() as connection:
        verification = verify(connection)
    assert verification.violations == 0, verification.to_json()


def log(schema: Schema, machine: Emulator) -> dict[str, Any]:
    with logging_into(schema, machine.port, *FAST, "--for", "0.4s") as logger:
        ended = logger.wait()
    assert ended.code == 0, ended.complaints
    return ended.figures


def test_void_is_a_record_and_nothing_is_erased(schema: Schema, machine: Emulator) -> None:
    log(schema, machine)
    rows = schema.value("SELECT count(*) FROM parameter_value_history")
    newest, last = schema.rows(
        "SELECT transaction_id, last_scan FROM logging_transactions ORDER BY last_scan DESC LIMIT 1"
    )[0]
    assert schema.value("SELECT max(scan) FROM component_parameters") == last, "it is what falls back"
    done = operate(schema, "void", newest, "--reason", "sensor was calibrated", "--by", "ann")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{newest} is void: scans " in done.stdout
    assert schema.value("SELECT count(*) FROM parameter_value_history") == rows
    assert schema.value("SELECT max(scan) FROM component_parameters") < last
    assert schema.rows("SELECT reason, voided_by FROM compensations") == [("sensor was calibrated", "ann")]
    again = operate(schema, "void", newest, "--reason", "again")
    assert (again.returncode, "was void already" in again.stdout) == (0, True)
    log(schema, machine)
    check(schema)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["void", "nonsense", "--reason", "x"], "nonsense"),
        (["void", str(uuid4()), "--reason", "x"], "transaction"),
        (["void", str(uuid4())], "Missing option '--reason'"),
        (["maintain", "--hold", "p"], "--hold needs --reason"),
        (["maintain", "--hold", "p", "--reason", "x"], "there is no partition 'p'"),
        (["maintain", "--release", "p"], "'p' is not held"),
        (["quarantine", "insert", "--spool", "/nowhere"], "name the scans to insert, or --all"),
        (["quarantine", "insert", "--all", "--spool", "/nowhere"], "/nowhere: no plclogger has used it"),
    ],
)
def test_a_mistake_is_one_line(schema: Schema, words: list[str], line: str) -> None:
    done = operate(schema, *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert line in done.stderr


def test_a_scan_that_is_refused_is_quarantined_and_inserted_again(
    schema: Schema, machine: Emulator, tmp_path: Path
) -> None:
    schema.rows("ALTER TABLE parameter_value_history ADD CONSTRAINT poison CHECK (scan <> 3)")
    spool = spool_of(schema)
    with logging_into(schema, machine.port, *FAST) as logger:
        last = "SELECT coalesce(max(last_scan), 0) FROM logging_streams"
        wait_for(lambda: schema.value(last) > 5, 20, "scans after the poison")
        ended = logger.stop()
    assert (ended.code, ended.figures["quarantined"]) == (0, 1)
    listed = plclogger("quarantine", "list", "--spool", spool, "--json")
    entry = json.loads(listed.stdout)
    assert (entry["device_id"], entry["stream_id"], entry["scan"], entry["sqlstate"]) == (
        "ald-1",
        1,
        3,
        "23514",
    )
    shown = json.loads(plclogger("quarantine", "show", entry["id"], "--spool", spool).stdout)
    assert len(shown["values"]) == 84
    target = tmp_path / "refused.jsonl"
    assert plclogger("quarantine", "export", target, "--spool", spool).returncode == 0
    assert json.loads(target.read_text()) == shown
    check(schema)

    refused = operate(schema, "quarantine", "insert", "--all", "--spool", spool)
    assert (refused.returncode, "stay in quarantine" in refused.stderr) == (1, True)
    schema.rows("ALTER TABLE parameter_value_history DROP CONSTRAINT poison")
    inserted = operate(schema, "quarantine", "insert", entry["id"], "--spool", spool)
    assert (inserted.returncode, inserted.stderr) == (0, "")
    assert "1 scans inserted, 84 rows" in inserted.stdout
    assert "nothing is in quarantine" in plclogger("quarantine", "list", "--spool", spool).stdout
    assert schema.value("SELECT count(*) FROM parameter_value_history WHERE scan = 3") == 84
    check(schema)


def test_wrong_spool_is_no_empty_quarantine(tmp_path: Path) -> None:
    done = plclogger("quarantine", "list", "--spool", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"plclogger: --spool {tmp_path}: no plclogger has used it; plclogger run says which it uses\n"
    )


def test_removed_is_gone_for_good_and_a_mistake_removes_nothing(tmp_path: Path) -> None:
    store = Quarantine(tmp_path)
    first, second, third = (
        store.add(StreamKey("oven-1"), scan_of(number), number, "refused", "23514") for number in (1, 2, 3)
    )
    wrong = plclogger("quarantine", "remove", first, "nonsense", "--spool", tmp_path)
    assert (wrong.returncode, "'nonsense' is not in quarantine" in wrong.stderr) == (2, True)
    assert len(store.list()) == 3
    done = plclogger("quarantine", "remove", first, third, "--spool", tmp_path)
    assert (done.returncode, done.stdout) == (0, "2 scans removed\n")
    assert [entry.id for entry in store.list()] == [second]


def test_maintain_says_what_it_did(schema: Schema) -> None:
    done = operate(schema, "maintain", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["ran"], report["dropped"], report["warnings"]) == (True, [], [])
    assert report["days_ahead"] >= 2
    assert "days ahead" in operate(schema, "maintain").stdout


def test_probe_shows_words_beside_values(machine: Emulator) -> None:
    done = plclogger("probe", ALD_FILE, "--plc", f"127.0.0.1:{machine.port}")
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = done.stdout.splitlines()
    assert header.split()[:6] == ["id", "parameter", "address", "type", "words", "value"]
    assert len(rows) == 84
    done = plclogger("probe", ALD_FILE, "--plc", f"127.0.0.1:{machine.port}", "--json")
    parameters = [json.loads(line) for line in done.stdout.splitlines()]
    assert [p["problem"] for p in parameters] == [""] * 84
    strange = [
        p["words"]
        for p in parameters
        if not re.fullmatch(r"[0-9A-F]{4}( [0-9A-F]{4})*|[01]( [01])*", p["words"])
    ]
    assert strange == []


def test_probe_of_a_plc_that_is_not_there(nobody: int) -> None:
    done = plclogger("probe", ALD_FILE, "--plc", f"127.0.0.1:{nobody}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"plclogger: the PLC at 127.0.0.1:{nobody} cannot be reached"]
