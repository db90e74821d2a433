"""A device with poll groups, logged from end to end: a stream for each, at its own interval, verified."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fix_emulator import Emulator
from fix_postgres import Schema

EXAMPLE = Path(__file__).parent.parent / "configs" / "slow_gateway.yaml"


def program(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def test_each_poll_group_is_a_stream_of_its_own(
    start_emulator: Callable[..., Emulator], schema: Schema, tmp_path: Path
) -> None:
    path = tmp_path / "device.yaml"
    text = EXAMPLE.read_text(encoding="utf-8")
    for old, new in (("interval_s: 1.0", "interval_s: 0.3"), ("interval_s: 3600", "interval_s: 0.9")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    emulator = start_emulator(path)
    database = ("--database", schema.conninfo, "--schema", schema.name)
    program(
        "logger", "run", path, "--plc", f"127.0.0.1:{emulator.port}", *database,
        "--stream", 4, "--for", "2s", "--spool", tmp_path / "spool",
    )  # fmt: skip
    streams = schema.rows("SELECT stream_id, poll_group, interval_s FROM logging_streams ORDER BY 1")
    assert [s for s in streams if s[0] != 0] == [(4, "", 0.3), (5, "hourly", 0.9)]
    columns = "stream_id, array_agg(DISTINCT parameter_id), count(DISTINCT scan)"
    (first, fast, fast_scans), (second, slow, slow_scans) = schema.rows(
        f"SELECT {columns} FROM parameter_value_history GROUP BY 1 ORDER BY 1"
    )
    assert (first, sorted(fast), second, sorted(slow)) == (4, [1, 2, 3, 4], 5, [5, 6])
    assert fast_scans > slow_scans >= 1
    (text,) = {
        row[0] for row in schema.rows("SELECT value_text FROM parameter_value_history WHERE parameter_id = 6")
    }
    assert text == "SN-4711"
    assert schema.value("SELECT current_text FROM component_parameters WHERE parameter_id = 6") == "SN-4711"
    assert json.loads(program("bench", "verify", *database, "--json"))["violations"] == 0
