"""Sweeps: plan files, and cells that run, fail or die while the result stays on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from waiting import wait_for

from bench.latency import Latencies, Merged
from bench.plan import SweepSpec, load_sweep
from bench.report.sweep_table import cell_line, sweep_table
from bench.sweep import Cell, run_sweep
from bench.trial import Trial
from logger.database import connect
from plcsim.errors import ConfigError

PLAN = """\
intervals_s: [1.0, 0.1]
devices: [1, 4]
repositories: [baseline, synchronizing]
parameters: 84
duration_s: 5
seed: 1
"""


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_is_every_combination_once(tmp_path: Path) -> None:
    trials = load_sweep(plan_file(tmp_path, PLAN)).trials()
    assert len(trials) == len(set(trials)) == 8
    assert {trial.interval_s for trial in trials} == {1.0, 0.1}
    assert {(trial.parameters, trial.duration_s) for trial in trials} == {(84, 5.0)}


def test_the_seed_draws_the_order(tmp_path: Path) -> None:
    orders = [
        tuple(load_sweep(plan_file(tmp_path, PLAN.replace("seed: 1", f"seed: {n}"))).trials())
        for n in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])


def test_the_example_that_comes_with_it_loads() -> None:
    assert load_sweep(Path(__file__).parent.parent / "configs" / "bench" / "sweep.yaml").trials()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[1.0, 0.1]", "[1.0, 0.001]", 1, "intervals_s[1]: 0.001: must be 0.01 or more"),
        ("[1.0, 0.1]", "[]", 1, "must have 1 or more entries"),
        ("[1.0, 0.1]", "[.inf]", 1, "intervals_s[0]: inf: must be"),
        ("[1.0, 0.1]", "[0.1, 0.1]", 1, "names a value twice"),
        ("devices: [1, 4]", "devices: [0]", 2, "devices[0]: 0: must be 1 or more"),
        ("devices: [1, 4]", "devices: [65]", 2, "devices[0]: 65: must be 64 or less"),
        ("devices: [1, 4]", "devices: 4", 2, "devices: 4: must be a list"),
        ("devices: [1, 4]", "devices: [1.5]", 2, "must be an integer"),
        ("synchronizing]", "sync]", 3, "repositories[1]: 'sync' is not a repository; there are"),
        ("parameters: 84", "parameters: 4", 4, "parameters: 4: must be 5 or more"),
        ("duration_s: 5", "duration_s: 0", 5, "duration_s: 0: must be more than 0"),
        ("duration_s: 5", "duration_s: long", 5, "must be a number"),
        ("seed: 1", "speed: 1", 6, "speed: is not a known key here"),
        ("intervals_s: [1.0, 0.1]\n", "", 1, "intervals_s: is missing"),
        (PLAN, "", 1, "a mapping of keys is expected, found nothing"),
        (PLAN, "[1, 2", 1, "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    path = plan_file(tmp_path, PLAN.replace(old, new))
    with pytest.raises(ConfigError) as refused:
        load_sweep(path)
    text = str(refused.value)
    assert text.startswith(f"{path}:{line}: ")
    assert said in text
    assert "\n" not in text


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """Connection string of a role that may make schemas until somebody revokes it."""
    with connect(postgres) as owner:
        database = sql.Identifier(owner.info.dbname)
        owner.execute("CREATE ROLE sweeper LOGIN IN ROLE pg_read_all_stats")
        owner.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO sweeper").format(database))
        yield make_conninfo(postgres, user="sweeper")
        assert schemas_left(owner) == []
        owner.execute("DROP OWNED BY sweeper CASCADE")
        owner.execute("DROP ROLE sweeper")


def schemas_left(connection: psycopg.Connection[Any]) -> list[Any]:
    statement = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%sweep'"
    return connection.execute(statement).fetchall()


def may_create(postgres: str, may: bool) -> None:
    verb, to = ("GRANT", "TO") if may else ("REVOKE", "FROM")
    with connect(postgres) as owner:
        database = owner.info.dbname
        owner.execute(f'{verb} CREATE ON DATABASE "{database}" {to} sweeper'.encode())


def kill_a_logger(postgres: str) -> None:
    """Kill the process that was started last, once loggers are at work."""
    with connect(postgres) as owner:
        wait_for(
            lambda: owner.execute(
                "SELECT 1 FROM pg_stat_activity WHERE usename = 'sweeper' AND query LIKE '%advanced%'"
            ).fetchall(),
            deadline_s=30,
        )
    children = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    max(children, key=lambda child: child.create_time()).kill()


def test_cells_that_fail_or_die_do_not_end_the_sweep(postgres: str, role: str, tmp_path: Path) -> None:
    spec = SweepSpec(
        intervals_s=[0.05, 0.06, 0.07],
        devices=[1],
        repositories=["synchronizing"],
        parameters=7,
        duration_s=0.5,
    )
    path = tmp_path / "sweep.json"
    on_disk: list[int] = []

    def on_cell(cell: Cell) -> None:
        on_disk.append(len(json.loads(path.read_text())["cells"]))
        may_create(postgres, len(on_disk) != 1)

    killer = threading.Thread(target=kill_a_logger, args=(postgres,))
    killer.start()
    cells = run_sweep(spec, role, path, on_cell)
    killer.join()

    assert on_disk == [1, 2, 3]
    assert "a worker process died" in cells[0].error
    assert "permission denied" in cells[1].error
    assert cells[2].error == ""
    result = cells[2].result
    assert result is not None
    assert result.violations == 0
    assert len(result.runs) == 1
    content = json.loads(path.read_text())
    assert (content["kind"], content["planned_cells"]) == ("sweep", 3)
    assert [cell["error"] == "" for cell in content["cells"]] == [False, False, True]
    assert all("failed: " in cell_line(cell) for cell in cells[:2])
    assert sweep_table(cells).row_count == 3
    loggers = content["cells"][2]["result"]["loggers"]
    for logger, run in zip(loggers, result.runs, strict=True):
        assert logger["stored_rows"] == run.stored_rows == 7 * run.scans
        response = logger["response"]
        decoded = Latencies(response["hdr_v2"], response["count"], 0.0, response["max_us"], 0)
        assert Merged([decoded]).count == run.scans
        # what a scan waits for its start and for its commit is part of its response
        assert run.response.max_us >= max(run.lag.max_us, run.commit.max_us)
    children = psutil.Process().children()
    assert not [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_trial_says_what_it_is() -> None:
    trial = Trial(0.5, 3, "baseline", 84, 8.0)
    assert str(trial) == "3 × 84 parameters every 0.5 s, baseline"
