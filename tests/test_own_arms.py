"""Arms of the user's own: a SQL file and a class at work, what is checked of them, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from fix_postgres import Schema

from bench.arms.oracle import ArmOracle
from bench.arms.settings import ArmSettings
from bench.arms.spec import parse_arm
from bench.arms.sql_file import PARAMETERS, load_sql
from bench.load import workload
from bench.load.concurrency import concurrency_check
from bench.load.failures import Failure
from bench.load.workload import SlotRequest, SlotResult, WorkerSettings
from bench.oracle.invariants import Verification
from logger.database import register_device
from plcsim.errors import ConfigError, PlcsimError

N = 5
EXAMPLES = Path(__file__).parent.parent / "examples"
SQL = str(EXAMPLES / "own_transaction.sql")
OWN_TABLE = "examples.own_repository:OneRowAScan"
OWN_STATEMENT = "examples.own_repository:WithNotify"

Ran = tuple[SlotResult, Callable[[], Verification]]
Run = Callable[..., Ran]


@pytest.fixture
def run(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a slot of an arm in this process; gives its result, and what checks it."""
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def ran(text: str, **request: float) -> Ran:
        settings = WorkerSettings(schema.conninfo, schema.name, text, (N,), running=True)
        connection = schema.connect()
        for config in settings.configs():
            register_device(connection, config)
        spec = parse_arm(text)
        spec.prepare_schema(connection, schema.name)
        oracle = ArmOracle(spec, connection, schema.name)
        workload.prepare(settings)
        result = workload.run_slot(SlotRequest(N, **{"ramp_s": 0.0, "saturated_s": 0.1, **request}))
        return result, lambda: oracle.verify(connection, result.transactions, result.in_doubt)

    yield ran
    workload.close()


@pytest.mark.parametrize("arm", [SQL, OWN_TABLE, f"{OWN_TABLE}+pool=2"])
def test_an_example_stores_and_its_count_is_the_workers(run: Run, arm: str) -> None:
    result, verify = run(arm, paced_s=0.1, rate_per_s=50, scans=1)
    assert result.saturated is not None
    assert result.paced is not None
    assert result.transactions == result.saturated.transactions + result.paced.transactions > 5
    assert (result.saturated.failures, result.in_doubt) == ({}, 0)
    verification = verify()
    assert verification.violations == 0
    assert verification.checks["I4"].not_applicable
    assert verification.checks["stored"].checked == verification.checks["server"].checked
    assert verification.checks["stored"].checked == result.transactions


def test_several_writers_of_one_device_number_their_scans_apart(
    schema: Schema, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    check = concurrency_check(schema.connect(), postgres, OWN_TABLE, N, True, 0.2)
    assert (check.failures, check.verification.violations) == ({}, 0)
    assert check.verification.checks["stored"].checked >= check.transactions > 3


def test_a_subclass_of_ours_is_checked_by_the_oracle(run: Run) -> None:
    result, verify = run(OWN_STATEMENT)
    verification = verify()
    assert (verification.violations, verification.rows) == (0, result.transactions * N)
    assert verification.checks["I2"].checked == N


def test_a_batch_that_is_lost_and_a_wrong_current_value_are_found(schema: Schema, run: Run) -> None:
    _, verify = run(SQL)
    assert verify().violations == 0
    schema.rows("DELETE FROM batches WHERE transaction_id = (SELECT transaction_id FROM batches LIMIT 1)")
    schema.rows("UPDATE latest SET value = -1 WHERE parameter_id = 1")
    checks = {name: check.violations for name, check in verify().checks.items() if check.violations}
    assert checks == {"stored": 1, "the newest value of each parameter is the one that is kept": 1}


def test_an_arm_that_does_nothing_is_noticed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "idle.sql").write_text("SELECT %(parameters)s")
    result, verify = run(str(tmp_path / "idle.sql"))
    verification = verify()
    assert verification.checks["server"].violations == result.transactions > 0
    assert "no way to count" in verification.checks["stored"].not_applicable


def test_a_failure_is_counted_and_the_worker_goes_on(schema: Schema, run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.sql").write_text(
        "-- plcbench: setup\nCREATE TABLE t (scan bigint, tried bigserial CHECK (tried % 2 = 0));\n"
        "-- plcbench: transaction\nINSERT INTO t (scan) VALUES (%(first_scan)s);\nSELECT 1;\n"
        "-- plcbench: stored\nSELECT count(*) FROM t"
    )
    schema.rows("CREATE SEQUENCE unused")
    with pytest.raises(ConfigError, match=r"odd\.sql:4: the database refuses it: .*violates check"):
        run(str(tmp_path / "odd.sql"))  # the first number is odd: said before anything runs
    (tmp_path / "odd.sql").write_text((tmp_path / "odd.sql").read_text().replace("= 0", "= 1"))
    schema.rows("DROP TABLE t")
    result, verify = run(str(tmp_path / "odd.sql"))
    assert result.saturated is not None
    failed = result.saturated.failures[Failure.REFUSED.value]
    assert abs(failed - result.transactions) <= 1
    assert result.saturated.reasons == {"23514": failed}
    assert verify().violations == 0


def test_a_lost_connection_leaves_one_transaction_in_doubt(schema: Schema, run: Run, tmp_path: Path) -> None:
    (tmp_path / "ends.sql").write_text(
        "-- plcbench: setup\nCREATE TABLE t (scan bigint PRIMARY KEY);\n"
        "-- plcbench: transaction\nINSERT INTO t VALUES (%(first_scan)s);\n"
        "SELECT CASE WHEN %(first_scan)s = 3 AND nextval('times') = 2\n"
        "    THEN pg_terminate_backend(pg_backend_pid()) END;\n"
        "-- plcbench: stored\nSELECT count(*) FROM t"
    )
    schema.rows("CREATE SEQUENCE times")
    schema.rows("SELECT nextval('times')")
    result, verify = run(str(tmp_path / "ends.sql"))
    assert result.saturated is not None
    assert result.saturated.failures == {"connection lost": 1}
    assert result.in_doubt == 1
    assert result.transactions > 3
    assert verify().violations == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Forgetful", r"store\(\) returned before its transaction was committed"),
        ("Broken", "arm forgetful:Broken: ZeroDivisionError: division by zero"),
    ],
)
def test_a_mistake_of_a_class_ends_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    (tmp_path / "forgetful.py").write_text(
        "class Forgetful:\n    def __init__(self, connection):\n        self.connection = connection\n"
        "    def store(self, batch):\n        self.connection.execute('BEGIN')\n"
        "class Broken(Forgetful):\n    def store(self, batch):\n        return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlcsimError, match=said):
        run(f"forgetful:{name}")


def test_what_would_write_elsewhere_is_refused_and_undone(schema: Schema, run: Run, tmp_path: Path) -> None:
    other = f"{schema.name}_plant"
    schema.rows(f"CREATE SCHEMA {other}")
    schema.rows(f"CREATE TABLE {other}.readings (id bigint)")
    try:
        (tmp_path / "out.sql").write_text(f"INSERT INTO {other}.readings VALUES (%(first_scan)s)")
        with pytest.raises(ConfigError, match=rf"it would write to {other}\.readings, and nothing but"):
            run(str(tmp_path / "out.sql"))
        (tmp_path / "setup.sql").write_text(
            f"-- plcbench: setup\nINSERT INTO {other}.readings VALUES (1);\n"
            "-- plcbench: transaction\nSELECT 1"
        )
        with pytest.raises(ConfigError, match="it would write to"):
            run(str(tmp_path / "setup.sql"))
        assert schema.value(f"SELECT count(*) FROM {other}.readings") == 0
        (tmp_path / "in.sql").write_text(
            "-- plcbench: setup\nCREATE TABLE readings (id bigint);\n"
            "-- plcbench: transaction\nINSERT INTO readings VALUES (%(first_scan)s)"
        )
        result, _ = run(str(tmp_path / "in.sql"))
        assert schema.value("SELECT count(*) FROM readings") == result.transactions > 0
    finally:
        schema.rows(f"DROP SCHEMA {other} CASCADE")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.sql: has no statement to run"),
        ("-- nothing\n", "f.sql: has no statement to run"),
        ("-- plcbench: setup\nSELECT 1", "f.sql: has no statement to run"),
        ("SELECT 1;\n-- plcbench: transaction\nSELECT 2", "f.sql:1: statements before the first line"),
        ("-- plcbench: begin\nSELECT 2", "f.sql:1: 'begin' is no section; there are setup, transaction"),
        ("SELECT 1;\n\nSELECT\n%(colour)s", r"f.sql:4: %\(colour\)s is not known; there are device_id"),
        ("SELECT 7 % 2", "f.sql:1: a % that begins no"),
        ("-- plcbench: transaction\nSELECT 1\n-- plcbench: stored\nSELECT 1; SELECT 2", "f.sql:4: section"),
    ],
)
def test_a_file_that_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_sql(written(tmp_path / "f.sql", text))


def test_semicolons_in_quotes_and_comments_end_nothing(tmp_path: Path) -> None:
    file = load_sql(
        written(
            tmp_path / "f.sql",
            "-- one; two\nSELECT 'a;b', $$c;d$$, $x$e;$$;f$x$, \"g;h\" /* i;j */;\n\n"
            "-- the second\nSELECT 7 %% 2, %(scan)s;\n",
        )
    )
    assert [statement.line for statement in file.transaction] == [2, 5]
    assert file.transaction[1].text == "SELECT 7 %% 2, %(scan)s"


def test_the_examples_sections_are_all_read() -> None:
    file = load_sql(Path(SQL))
    assert len(file.transaction) == 3
    assert "CREATE TABLE readings" in file.setup
    assert file.stored == "SELECT count(*) FROM batches"
    assert list(file.checks) == ["the newest value of each parameter is the one that is kept"]


def test_the_page_names_every_parameter_setting_and_section() -> None:
    page = (EXAMPLES.parent / "docs" / "own-arms.md").read_text(encoding="utf-8")
    assert [name for name in PARAMETERS if f"`{name}`" not in page] == []
    assert [field.name for field in fields(ArmSettings) if f"`{field.name}=" not in page] == []
    assert all(f"| `{section}" in page for section in ("setup", "transaction", "stored", "check TITLE"))
    assert all(
        Path(EXAMPLES.parent, path).exists() for path in re.findall(r"`((?:bench|examples)/[^`]+)`", page)
    )
