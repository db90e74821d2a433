"""Replay: recordings are read as they stand, played by their own clock, and stored as they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import pytest
from fix_postgres import Schema
from waiting import wait_for

from bench.arms.oracle import OwnCheck
from bench.cli import cli
from bench.cli.replay import Speed
from bench.load.machine import machine
from bench.load.work import SlotRequest, WorkerSettings, device_id_of
from bench.load.worker import Worker
from bench.oracle.verify import verify
from bench.replay.csv_file import device_of
from bench.replay.history import read_history
from bench.replay.player import Piece, Player, PlayerSettings
from bench.replay.recording import Recording, load_recording
from bench.replay.run import ReplaySettings, _check_recorded, pieces_of, run_replay
from bench.section import Section
from logger.database import connect, register_device
from logger.scan import Quality, Text
from plcsim.device_file import parse_device
from plcsim.errors import InputError

NAMES = ["oven.temperature", "oven.pressure", "run"]


def made(scans: int = 120, step_s: float = 1.0, process: str = "run") -> Recording:
    """A recording with a process in its second half, and a value that was not read."""
    random = np.random.default_rng(1)
    values = random.normal(100, 5, (scans, len(NAMES)))
    values[:, 2] = np.where(np.arange(scans) < scans // 2, 0, 17)
    values[5:6, 0] = np.nan
    quality = np.where(np.isnan(values), Quality.BAD_COMMUNICATION, Quality.GOOD).astype(np.int16)
    return Recording("made", device_of(NAMES, process), np.arange(scans) * step_s, values, quality)


def written(folder: Path, text: str) -> Path:
    path = folder / "day.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def player(schema: Schema, tmp_path: Path) -> Iterator[Player]:
    """Plays `made()` into a schema, in this process."""
    recording = made()
    with connect(schema.conninfo, schema.name) as connection:
        register_device(connection, recording.config)
    recording.save(tmp_path)
    player = Player(PlayerSettings(schema.conninfo, schema.name, "synchronizing", tmp_path))
    yield player
    player.link.close()


def recorded_check(schema: Schema, recording: Recording, played: tuple[int, ...]) -> OwnCheck:
    check = OwnCheck("recorded")
    with connect(schema.conninfo, schema.name) as connection:
        _check_recorded(check, connection, recording, np.array(played))
    return check


@pytest.mark.parametrize(
    ("scans", "speed", "count"),
    [(20, None, 2), (120, None, 4), (1600, None, 8), (4000, None, 10), (200, 10.0, 8), (9**6, 1.0, 100)],
)
def test_pieces_cover_the_recording_once(scans: int, speed: float | None, count: int) -> None:
    recording = replace(made(1), at_s=np.arange(float(scans)))
    pieces = pieces_of(recording, speed)
    assert [place for piece in pieces for place in (piece.first, piece.end)][1:-1:2] == [
        piece.first for piece in pieces[1:]
    ]
    assert (pieces[0].first, pieces[-1].end, len(pieces)) == (0, scans, count)


def test_a_recording_travels_by_its_folder(tmp_path: Path) -> None:
    recording = made()
    recording.save(tmp_path)
    loaded = load_recording(tmp_path)
    assert loaded.config.sha256 == recording.config.sha256
    assert np.array_equal(loaded.values, recording.values, equal_nan=True)
    assert loaded.first(10.0).at_s.tolist() == list(range(10))


def test_what_is_stored_is_what_was_recorded(player: Player, schema: Schema) -> None:
    played = player.play(Piece(0, 120, None)).played
    assert played == tuple(range(120))
    check = recorded_check(schema, made(), played)
    assert (check.checked, check.violations) == (360, 0)
    with connect(schema.conninfo, schema.name) as connection:
        verification = verify(connection)
    assert verification.violations == 0
    assert verification.rows == 360
    assert schema.value("SELECT count(*) FROM process_data_points") == 180
    assert schema.value("SELECT count(*) FROM component_parameters WHERE scan >= 119") == 3


def test_a_value_that_is_not_the_recorded_one_is_found(player: Player, schema: Schema) -> None:
    played = player.play(Piece(0, 30, None)).played
    other = made()
    other.values[7, 1] += 1e-9
    check = recorded_check(schema, other, played)
    assert check.violations == 1
    assert "scan 8, parameter 2" in check.examples[0]
    assert recorded_check(schema, made(), played[:-1]).violations == 1
    assert recorded_check(schema, made(), (*played[1:], 0)).violations > 30


def test_scans_are_due_when_they_were_recorded_on_a_faster_clock(schema: Schema, tmp_path: Path) -> None:
    """A hole of the recording stays one: 10 scans, nothing for 20 s, 10 scans; at 40 times the speed."""
    recording = made(20)
    recording = replace(recording, at_s=recording.at_s + np.where(np.arange(20) < 10, 0, 20))
    with connect(schema.conninfo, schema.name) as connection:
        register_device(connection, recording.config)
    recording.save(tmp_path)
    player = Player(PlayerSettings(schema.conninfo, schema.name, "baseline", tmp_path))
    loop = player.play(Piece(0, 20, 40.0)).loop
    player.link.close()
    assert (loop.transactions, loop.skipped, loop.response.count) == (20, 0, 20)
    assert 39 / 40 + 1 / 40 <= loop.seconds < 2
    at = schema.rows("SELECT DISTINCT recorded_at FROM parameter_value_history ORDER BY 1")
    gaps = [(b[0] - a[0]).total_seconds() for a, b in pairwise(at)]
    assert max(gaps) == gaps[9]
    assert gaps[9] == pytest.approx(21 / 40, abs=0.2)


def test_a_scan_that_fails_is_lost_and_counted_and_the_next_one_follows(
    player: Player, schema: Schema
) -> None:
    player.play(Piece(0, 10, None))
    (backend,) = player.link.backends()
    assert schema.value("SELECT pg_terminate_backend(%s)", backend)
    wait_for(lambda: not schema.rows("SELECT FROM pg_stat_activity WHERE pid = %s", backend))
    result = player.play(Piece(10, 20, None))
    assert result.loop.failures == {"connection lost": 1}
    assert result.played == tuple(range(11, 20))
    assert recorded_check(schema, made(), (*range(10), *result.played)).violations == 0


def test_the_history_of_a_database_is_a_recording(player: Player, schema: Schema) -> None:
    player.play(Piece(0, 120, None))
    found = read_history(schema.conninfo, schema.name)
    assert np.array_equal(found.values, made().values, equal_nan=True)
    assert np.array_equal(found.quality, made().quality)
    assert np.all(np.diff(found.at_s) > 0)
    assert found.left_out == 0
    (middle,) = schema.rows("SELECT min(recorded_at) FROM parameter_value_history WHERE scan = 61")[0]
    second = read_history(schema.conninfo, schema.name, "replayed", since=middle)
    assert np.array_equal(second.values, made().values[60:], equal_nan=True)
    first = read_history(schema.conninfo, schema.name, until=middle)
    assert first.scans == 60


def test_a_day_of_an_emulated_machine_is_judged_by_what_was_recorded(schema: Schema, tmp_path: Path) -> None:
    """Not by its signals: clients may have written set values then."""
    config = machine(12, device_id_of(12))
    with connect(schema.conninfo, schema.name) as connection:
        register_device(connection, config)
    worker = Worker(WorkerSettings(schema.conninfo, schema.name, "synchronizing", (12,), True))
    logged = worker.run(SlotRequest(12, ramp_s=0.1)).scans
    worker.link.close()
    recording = read_history(schema.conninfo, schema.name)
    assert recording.scans == logged
    section = Section("replay")
    run_replay(recording, ReplaySettings(("synchronizing",), None, schema.conninfo), section)
    verification = section.verifications["arm A"]
    assert verification.violations == 0
    assert verification.checks["I4"].not_applicable
    assert verification.checks["recorded"].checked >= 12 * logged


def test_texts_are_played_too(schema: Schema, tmp_path: Path) -> None:
    parameters = [
        {"id": 1, "component": "batch", "name": "name", "type": "string", "length": 16, "address": 0},
        {"id": 2, "component": "batch", "name": "size", "type": "float32", "address": 8},
    ]
    group = {"name": "batch", "table": "holding_register", "parameters": parameters}
    config = parse_device({"device": {"device_id": "replayed"}, "groups": [group]})
    texts = {n: (Text(0, f"batch {n}"),) for n in range(30) if n != 7}
    values = np.stack([np.full(30, np.nan), np.arange(30.0)], axis=1)
    quality = np.full((30, 2), Quality.GOOD, dtype=np.int16)
    recording = Recording("made", config, np.arange(30.0), values, quality, texts)
    with connect(schema.conninfo, schema.name) as connection:
        register_device(connection, config)
    recording.save(tmp_path)
    player = Player(PlayerSettings(schema.conninfo, schema.name, "synchronizing", tmp_path))
    played = player.play(Piece(0, 30, None)).played
    player.link.close()
    assert recorded_check(schema, recording, played).violations == 0
    assert read_history(schema.conninfo, schema.name).texts == texts
    other = replace(recording, texts={**texts, 3: (Text(0, "another"),), 7: (Text(0, "one more"),)})
    assert recorded_check(schema, other, played).violations == 2


def test_what_the_history_does_not_hold_is_told(player: Player, schema: Schema) -> None:
    with pytest.raises(InputError, match="nothing was logged"):
        read_history(schema.conninfo, schema.name)
    player.play(Piece(0, 10, None))
    with pytest.raises(InputError, match="'oven' is not in this database; there are replayed"):
        read_history(schema.conninfo, schema.name, "oven")
    now = datetime.now(UTC)
    with pytest.raises(InputError, match="is not before"):
        read_history(schema.conninfo, schema.name, since=now, until=now - timedelta(days=1))
    with pytest.raises(InputError, match="no whole scan"):
        read_history(schema.conninfo, schema.name, until=now - timedelta(days=1))


def schemas(postgres: str) -> list[Any]:
    with connect(postgres) as connection:
        return connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'plcbench%'"
        ).fetchall()


@pytest.mark.parametrize("speed", [None, 120.0])
def test_two_arms_take_turns_and_both_store_all_of_it(postgres: str, speed: float | None) -> None:
    recording = made(120)
    section = Section("replay")
    pairs: list[int] = []
    run_replay(
        recording,
        ReplaySettings(("baseline", "synchronizing"), speed, postgres),
        section,
        on_pair=lambda: pairs.append(len(section.figures["pieces"])),
    )
    assert section.invalid == []
    assert pairs == [2, 4, 6, 8]
    assert [judged.metric for judged in section.judgements] == [
        "median response" if speed else "throughput",
        "success",
    ]
    for letter in "AB":
        assert section.figures["played"][letter]["scans_stored"] == 120
        verification = section.verifications[f"arm {letter}"]
        assert verification.violations == 0
        assert verification.checks["recorded"].checked == 3 * (120 + 30)
        if speed:
            assert section.figures["played"][letter]["times_real_time"] == pytest.approx(speed, rel=0.1)
    assert section.figures["pieces"][0]["piece"] == section.figures["pieces"][1]["piece"] == 0
    assert {finding.metric for finding in section.findings} >= {"throughput"}
    assert schemas(postgres) == []


def test_too_short_a_recording_is_refused(postgres: str) -> None:
    with pytest.raises(InputError, match="19 scans are too few"):
        run_replay(made(19), ReplaySettings(("baseline",), None, postgres), Section("replay"))


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "replay", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def csv_of(folder: Path, scans: int) -> Path:
    rows = "".join(f"{n},{n * 0.5},{n % 7}\n" for n in range(scans))
    return written(folder, "time,oven.temperature,oven.pressure\n" + rows)


def test_the_command_plays_a_file_through_one_arm(postgres: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    day = csv_of(tmp_path, 60)
    with command(
        str(day), "--only-a", "--for", "50s", "--database", postgres, "--json", str(path)
    ) as process:
        said, complaints = process.communicate(timeout=60)
    assert complaints == ""
    assert process.returncode in (0, 4)  # too few scans to be sure of 95 %
    content = json.loads(path.read_text())
    assert content["kind"] == "replay"
    (section,) = content["sections"]
    assert section["figures"]["recording"]["scans"] == 50
    assert section["verification"]["arm A"]["violations"] == 0
    assert "50 scans of 2 parameters" in said
    assert f"result: {path}" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--speed", "fast"], "'fast' is not a speed such as 1, 10 or max"),
        (["--speed", "0"], "'0' is not a speed"),
        (["--a", "nonsense"], "'nonsense' is not an arm"),
        (["--process-column", "run"], r"day\.csv:1: run: is not a column"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    day, result = str(csv_of(tmp_path, 30)), str(tmp_path / "r.json")
    with pytest.raises((click.UsageError, InputError), match=complaint) as caught:
        cli.main(["replay", day, *arguments, "--json", result], standalone_mode=False)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "speed"), [("max", None), ("1", 1.0), ("10x", 10.0), ("2.5", 2.5), ("100×", 100.0)]
)
def test_a_speed_as_people_write_it(text: str, speed: float | None) -> None:
    assert (Speed().convert(text, None, None) or None) == speed


@pytest.mark.parametrize("who", ["Ctrl-C", "SIGTERM", "kill -9 of the workers"])
def test_what_is_stopped_leaves_its_result_and_nothing_else(postgres: str, tmp_path: Path, who: str) -> None:
    """At its own speed it would last for 50 minutes: nobody waits for the piece that is played."""
    path = tmp_path / "result.json"
    rows = "".join(f"{n * 0.01 if n < 200 else n},{n}\n" for n in range(3000))  # the first pieces are short
    day = written(tmp_path, "time,a\n" + rows)
    with command(str(day), "--speed", "1", "--database", postgres, "--json", str(path)) as process:
        wait_for(path.exists, 60, "the first pair's result")
        if who == "kill -9 of the workers":
            for pid in workers_of(process.pid):
                os.kill(pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGINT if who == "Ctrl-C" else signal.SIGTERM)
        _, complaints = process.communicate(timeout=30)
    expected = "a worker process died" if "-9" in who else "it was stopped"
    assert process.returncode not in (0, 3, 4)
    assert len(complaints.split("\n\n")[0].strip().splitlines()) <= 1
    wait_for(lambda: not _alive(process.pid))
    assert schemas(postgres) == []
    content = json.loads(path.read_text())
    (section,) = content["sections"]
    assert expected in section["error"]
    assert content["outcome"] == "INVALID"
    assert 2 <= len(section["figures"]["pieces"]) < 200
    for piece in section["figures"]["pieces"]:
        assert piece["stored"] == 30


def workers_of(pid: int) -> list[int]:
    found = [
        child.pid for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())
    ]
    assert len(found) == 2
    return found


def _alive(leader: int) -> list[int]:
    """Processes of a session that still run; zombies have ended."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found
