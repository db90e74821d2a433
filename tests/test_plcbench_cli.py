"""The `plcbench` command as a user meets it: help, results, one line and an exit code for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest
from fix_plant import ALD, HISTORY, PRESSURE_SETPOINT, Plant, TrueStream, row, update
from fix_postgres import Schema

from bench.cli import cli, main
from bench.oracle.verify import INVARIANTS
from bench.report.verification import verification_table
from plcsim.device_file import parse_device
from plcsim.memory import LOCAL
from plcsim.parameters import Table
from plcsim.write_journal import append_write, open_journal
from plcsim.writes import Change, Write, WriteRecord

COMMANDS = ["quick", "verify", "demo", "sweep", "suite", "stress", "replay", "compare", "report", "doctor"]
SCRIPT = str(Path(sys.executable).parent / "plcbench")
MODULE = [sys.executable, "-m", "bench"]

Plcbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plcbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Plcbench:
    """Runs the command in this process, in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLCSIM_DATABASE", raising=False)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["plcbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.mark.parametrize("program", [MODULE, [SCRIPT]], ids=["module", "script"])
def test_both_ways_to_start_it_answer_help(program: Sequence[str]) -> None:
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert "Exit codes: 0 pass, 1 run error, 2 usage or configuration, 3 target missed" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_has_help_with_an_example(plcbench: Plcbench, name: str, flag: str) -> None:
    code, out, err = plcbench(name, flag)
    assert (code, err) == (0, "")
    assert f"Example: plcbench {name}" in out


def test_no_arguments_are_answered_with_help(plcbench: Plcbench) -> None:
    code, out, _ = plcbench()
    assert code == 0
    assert "Usage: plcbench" in out


def test_help_names_all_commands() -> None:
    assert sorted(cli.commands) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["quick", "--parameters", "4"], 2, "4 is not in the range 5<=x<=5000"),
        (["quick", "--parameters", "many"], 2, "'many' is not a valid integer"),
        (["quick", "--duration", "soon"], 2, "'soon' is not a duration such as"),
        (["quick", "--a", "mine"], 2, "'mine' is not an arm; there are baseline, synchronizing"),
        (["quick", "--b", "baseline+pool=no"], 2, "pool=no: must be from 1 to 200 connections"),
        (["quick", "--tables", "a.b,,c"], 2, "a name is empty"),
        (["quick", "--copy-rows"], 2, "--copy-rows copies the rows of --tables; name them"),
        (["quick", "--tables", "a.b"], 2, "--tables are tables of yours: say by --database where they are"),
        (["quick", "--process", "on"], 2, "'on' is not one of 'running', 'idle'"),
        (["quick", "--json", "/proc/x/y.json"], 2, "the result cannot be written to /proc/x/y.json"),
        (["quick", "--database", "nonsense"], 2, "--database is not a PostgreSQL URL"),
        (["quick", "--database", "postgresql://me:hunter2@127.0.0.1:1/x"], 1, "cannot be reached"),
        (["verify", "--database", "postgresql://me:hunter2@127.0.0.1:1/x"], 1, "cannot be reached"),
        (
            ["verify", "--database", "postgresql://me:hunt@er2@host/x"],
            2,
            "--database is not a PostgreSQL URL",
        ),
        (["verify", "--journal", "nowhere.jsonl"], 2, "nowhere.jsonl: cannot be read"),
        (["verify", "--database", "postgresql://x", "--schema", ""], 2, "the name of the schema is empty"),
        (["sweep"], 2, "Missing argument 'PLAN'"),
        (["sweep", "nowhere.yaml"], 2, "nowhere.yaml: cannot be read: No such file or directory"),
        (["suite", "--part", "all"], 2, "'all' is not one of 'baseline'"),
        (["suite", "--plan", "nowhere.yaml"], 2, "nowhere.yaml: cannot be read: No such file or directory"),
        (["stress", "--scenario", "flood"], 2, "'flood' is not one of 'escalation'"),
        (["stress", "--b", "mine"], 2, "'mine' is not an arm; there are baseline, synchronizing"),
        (["stress", "--output", "/proc/x/y.json"], 2, "the result cannot be written to /proc/x/y.json"),
        (["replay", "nowhere.csv"], 2, "nowhere.csv: cannot be read: No such file or directory"),
        (["compare", "a.json"], 2, "Missing argument 'B'"),
        (["compare", "a.json", "b.json", "--margin", "nan"], 2, "nan is not a number"),
        (["swoop"], 2, "No such command 'swoop'"),
        (["--fast"], 2, "No such option"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_in_one_line(
    plcbench: Plcbench, arguments: list[str], code: int, said: str
) -> None:
    got, out, err = plcbench(*arguments)
    assert got == code
    assert err.startswith("plcbench: ")
    assert said in err
    assert err.count("\n") == 1
    assert "hunt" not in out + err
    assert not Path("plcbench-results").exists() or not list(Path("plcbench-results").iterdir())


def test_a_wrong_plan_is_told_with_its_line(plcbench: Plcbench, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("interval_s: [1.0]\ndevices: [1]\nrepository: [best]\n")
    code, _, err = plcbench("sweep", "sweep.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "sweep.yaml:3: repository[0]: 'best' is not an arm" in err


def test_verify_wants_tables_of_ours(plcbench: Plcbench, schema: Schema) -> None:
    code, _, err = plcbench("verify", "--database", schema.conninfo, "--schema", "elsewhere")
    assert (code, err.count("\n")) == (2, 1)
    assert "has no plclogger tables in schema 'elsewhere'" in err
    schema.rows("CREATE TABLE public.machines (id integer)")
    try:
        code, _, err = plcbench("verify", "--database", schema.conninfo)
    finally:
        schema.rows("DROP TABLE public.machines")
    assert (code, err.count("\n")) == (2, 1)
    assert "has no plclogger tables in schema 'public'" in err


def test_verify_of_true_data_exits_0_and_says_so(plcbench: Plcbench, plant: Plant) -> None:
    where = ("--database", plant.schema.conninfo, "--schema", plant.schema.name)
    code, out, err = plcbench("verify", *where)
    assert (code, err) == (0, "")
    assert "every invariant holds" in out
    assert "1,227 history rows" in out
    assert all(f"{name} {title}" in out for name, title in INVARIANTS.items())
    assert max(map(len, out.splitlines())) <= 140


def test_verify_of_tampered_data_exits_5_with_the_example(plcbench: Plcbench, plant: Plant) -> None:
    plant.tamper(update(HISTORY, "value = 123.5", row(3)))
    where = ("--database", plant.schema.conninfo, "--schema", plant.schema.name)
    code, out, err = plcbench("verify", *where)
    assert (code, err) == (5, "")
    assert "2 violations" in out
    assert "chamber.pressure in scan 3: stored 123.5" in " ".join(out.split())
    code, out, err = plcbench("verify", *where, "--json")
    assert (code, err) == (5, "")
    result = json.loads(out)
    assert result["violations"] == 2
    assert {name: check["violations"] for name, check in result["invariants"].items()} == {
        "I1": 0, "I2": 0, "I3": 0, "I4": 1, "I5": 0, "I6": 1,
    }  # fmt: skip


def test_verify_reads_what_clients_wrote_from_the_journal(
    plcbench: Plcbench, schema: Schema, tmp_path: Path
) -> None:
    write = Write(22, PRESSURE_SETPOINT, 2.5)
    TrueStream(schema, ALD, writes=[write]).store(21, 22, 23, 24)
    with open_journal(tmp_path / "writes.jsonl") as journal:
        changes = (Change(write, 0.8),)
        record = WriteRecord("ald-1", LOCAL, Table.HOLDING_REGISTER, 110, (0, 0), (0, 0x4020), changes)
        append_write(journal, record)
    where = ("--database", schema.conninfo, "--schema", schema.name, "--json")
    assert plcbench("verify", *where)[0] == 5
    assert plcbench("verify", *where, "--journal", tmp_path / "writes.jsonl")[0] == 0


def test_verify_takes_a_journal_of_each_device_and_keeps_their_writes_apart(
    plcbench: Plcbench, schema: Schema, tmp_path: Path
) -> None:
    journals: list[str | Path] = []
    for number, device_id in enumerate(("ald-1", "ald-2")):
        write = Write(22, PRESSURE_SETPOINT, 2.5 + number)
        data = ALD.to_json()
        data["device"]["device_id"] = device_id
        TrueStream(schema, parse_device(data), writes=[write]).store(21, 22, 23, 24)
        with open_journal(tmp_path / device_id) as journal:
            record = WriteRecord(device_id, LOCAL, Table.HOLDING_REGISTER, 110, (), (), (Change(write, 0.8),))
            append_write(journal, record)
        journals += ["--journal", tmp_path / device_id]
    where = ("--database", schema.conninfo, "--schema", schema.name, "--json")
    assert plcbench("verify", *where, *journals[:2])[0] == 5
    assert plcbench("verify", *where, *journals)[0] == 0


def test_verify_changes_nothing(plcbench: Plcbench, plant: Plant) -> None:
    reader = psycopg.conninfo.make_conninfo(
        plant.schema.conninfo, options="-c default_transaction_read_only=on"
    )
    assert plcbench("verify", "--database", reader, "--schema", plant.schema.name)[0] == 0


def test_an_example_with_brackets_is_shown_as_it_is(plant: Plant) -> None:
    plant.tamper(update("scan_gaps", "reason = '[red]away[/red]'"))
    verification = plant.verify()
    verification.checks["I6"].examples.append("[bold]not markup[/bold]")
    assert verification_table(verification, "x").row_count == 6 + 2


def test_a_sweep_of_two_cells_runs_from_end_to_end(postgres: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "interval_s: 0.05\ndevices: [1, 2]\nparameters: 12\nduration_s: 0.5\nwarm_up_s: 0\n"
    )
    command = [*MODULE, "sweep", "plan.yaml", "--database", postgres, "--json", "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 runs, at most ")
    assert sum("0 violations" in line for line in lines) == 2
    content = json.loads((tmp_path / "out.json").read_text())
    assert [cell["error"] for cell in content["cells"]] == ["", ""]
    assert sorted(len(cell["result"]["loggers"]) for cell in content["cells"]) == [1, 2]
    for cell in content["cells"]:
        assert cell["result"]["verification"]["violations"] == 0
        assert cell["result"]["values_per_s"] > 0
