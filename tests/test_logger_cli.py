"""What `plclogger` says to bad input: one line, the right exit code, no secret, nothing half done."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from fix_emulator import ALD_FILE, Emulator
from fix_logger import plclogger
from fix_postgres import Schema, reachable_folder

from logger.database.embedded import EmbeddedPostgres

SECRET = "s3cret"
USAGE, AROUND_US = 2, 1


class Says(NamedTuple):
    """What a case must end in."""

    code: int
    line: str
    """A pattern that the one line on stderr has in it."""


def check(says: Says, *arguments: object, **environment: str) -> None:
    """Run it and hold it to what it must say."""
    ended = plclogger(*arguments, **environment)
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("plclogger: ")
    assert re.search(says.line, lines[0]), lines[0]
    assert ended.returncode == says.code, lines[0]
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def run(machine: Emulator, database: str, *options: object) -> list[object]:
    return ["run", ALD_FILE, "--plc", f"127.0.0.1:{machine.port}", "--database", database, *options]


class Guarded(NamedTuple):
    where: str
    """host:port"""
    conninfo: str
    """For its owner, who needs no password."""

    def tables(self) -> list[tuple[str]]:
        with psycopg.connect(self.conninfo) as connection:
            query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """A server that asks the role `guarded` for its password over TCP."""
    folder = reachable_folder()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rules = folder / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all guarded 127.0.0.1/32 scram-sha-256\n")
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(rules)}
    with EmbeddedPostgres(folder / "postgresql", settings) as server:
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'".encode())
            connection.execute("GRANT CREATE ON SCHEMA public TO guarded")
        yield Guarded(f"127.0.0.1:{port}", server.conninfo)
    server.remove()
    rules.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--interval", "5ms"], r"--interval 0.005s is too short: 10ms or more, or 0"),
        (["--interval", "soon"], r"'soon' is not a duration such as"),
        (["--interval", "-1s"], r"'-1s' is not a duration|No such option"),
        (["--for", "3 weeks"], r"'3 weeks' is not a duration"),
        (["--plc", "10.0.0.1"], r"'10.0.0.1' is not HOST:PORT"),
        (["--plc", "10.0.0.1:99999"], r"is not HOST:PORT"),
        (["--plc", ":502"], r"is not HOST:PORT"),
        (["--repository", "telepathic"], r"'telepathic' is not one of 'baseline', 'synchronizing'"),
        (["--stream", "0"], r"0 is not in the range"),
        (["--nonsense"], r"No such option"),
        (["--schema", ""], r"name of the schema is empty"),
        (["--spool-max-bytes", "much"], r"'much' is not a size such as 500MB, 2GB or 64MiB"),
        (["--when-full", "panic"], r"'panic' is not one of 'block', 'drop-oldest'"),
        (["--workers", "0"], r"0 is not in the range"),
        (["--keep-days", "0"], r"0 is not in the range"),
        (["--spool", "/proc/1/spool"], r"--spool /proc/1/spool: cannot be used: "),
        (["--spool", __file__], r"'--spool': Directory '.*test_logger_cli.py' is a file"),
        (["--metrics", "127.0.0.1"], r"'127.0.0.1' is not HOST:PORT"),
    ],
)
def test_bad_option(machine: Emulator, schema: Schema, options: list[str], line: str) -> None:
    before = schema.contents()
    check(Says(USAGE, line), *run(machine, schema.conninfo, "--schema", schema.name, *options))
    assert schema.contents() == before


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, r"nowhere.yaml: cannot be read: No such file or directory"),
        ("device: {device_id: x}\ngroops: []\n", r"nowhere.yaml:2: groops: is not a known key here"),
    ],
)
def test_bad_device_file(tmp_path: Path, content: str | None, line: str) -> None:
    path = tmp_path / "nowhere.yaml"
    if content is not None:
        path.write_text(content)
    check(Says(USAGE, line), "run", path)


def test_plc_that_cannot_be_reached_is_waited_for(schema: Schema, nobody: int) -> None:
    where = f"127.0.0.1:{nobody}"
    says = Says(0, f"ald-1: the PLC at {where} cannot be reached")
    check(says, "run", ALD_FILE, "--plc", where, "--database", schema.conninfo, "--schema", schema.name,
          "--interval", "50ms", "--for", "0.3s")  # fmt: skip
    assert schema.rows("SELECT DISTINCT quality, value FROM parameter_value_history") == [(8, None)]


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://u:{secret}@127.0.0.1:{nobody}/d", "cannot be reached: Connection refused"),
        ("postgresql://u:{secret}@no.such.invalid/d", "cannot be reached: .*resolve host"),
        ("postgresql:///d?host=/nowhere", "cannot be reached: No such file"),
    ],
)
def test_database_that_cannot_be_reached_is_waited_for(
    machine: Emulator, nobody: int, url: str, line: str
) -> None:
    """What was read meanwhile stays in the spool."""
    arguments = run(machine, url.format(secret=SECRET, nobody=nobody), "--interval", "50ms", "--for", "0.3s")
    ended = plclogger(*arguments, "--drain", "0.1s")
    assert (ended.returncode, SECRET in ended.stdout + ended.stderr) == (0, False)
    assert re.search(f"waiting for the database: .*{line}", ended.stderr)
    assert len(ended.stderr.splitlines()) == 1
    assert re.search(r"stopped: 0 scans stored, .* [1-9]\d* in the spool", ended.stdout)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:{secret}@h:port/d",
        "postgresql://u:{secret}@{secret}@127.0.0.1/d",
        "postgresql://u:{secret}/{secret}@127.0.0.1/d",
        "mysql://u:{secret}@127.0.0.1/d",
    ],
)
def test_database_that_has_no_url(machine: Emulator, url: str) -> None:
    says = Says(USAGE, "--database is not a PostgreSQL URL")
    check(says, *run(machine, url.format(secret=SECRET)))


@pytest.mark.parametrize(
    ("user", "database", "line"),
    [
        ("guarded:wrong", "plcsim", 'refuses us: password authentication failed for user "guarded"'),
        ("guarded", "plcsim", "refuses us: .*no password supplied"),
        ("stranger:{secret}", "plcsim", "refuses us: no pg_hba.conf entry"),
        ("guarded:{secret}", "elsewhere", 'refuses us: database "elsewhere" does not exist'),
    ],
)
def test_database_that_refuses_us(
    machine: Emulator, guarded: Guarded, user: str, database: str, line: str
) -> None:
    url = f"postgresql://{user.format(secret=SECRET)}@{guarded.where}/{database}"
    before = guarded.tables()
    check(Says(USAGE, line), *run(machine, url)[:4], PLCSIM_DATABASE=url)
    assert guarded.tables() == before


def test_right_password_is_let_in(machine: Emulator, guarded: Guarded) -> None:
    """The negative control of the test before."""
    ended = plclogger(
        *run(machine, f"postgresql://guarded:{SECRET}@{guarded.where}/plcsim", "--for", "0s", "--json")
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ("logging_streams",) in guarded.tables()


def test_somebody_elses_tables(machine: Emulator, schema: Schema) -> None:
    theirs = f"{schema.name}_theirs"
    schema.rows(f"CREATE SCHEMA {theirs}")
    schema.rows(f"CREATE TABLE {theirs}.orders (n int)")
    check(
        Says(USAGE, r"holds somebody else's tables \(orders\)"),
        *run(machine, schema.conninfo, "--schema", theirs),
    )
    tables = f"SELECT relname FROM pg_class WHERE relnamespace = '{theirs}'::regnamespace"
    assert schema.rows(tables) == [("orders",)]
    schema.rows(f"DROP SCHEMA {theirs} CASCADE")


def test_tables_of_another_version(machine: Emulator, schema: Schema) -> None:
    schema.rows("UPDATE plcsim_schema SET version = 99")
    before = schema.contents()
    check(
        Says(USAGE, "has version 99; this plclogger knows 2"),
        *run(machine, schema.conninfo, "--schema", schema.name),
    )
    assert schema.contents() == before


def test_device_id_that_has_another_map(machine: Emulator, schema: Schema, tmp_path: Path) -> None:
    assert plclogger(*run(machine, schema.conninfo, "--schema", schema.name, "--for", "0s")).returncode == 0
    before = schema.contents()
    other = tmp_path / "other.yaml"
    other.write_text(ALD_FILE.read_text().replace("limits: [0, 1100]", "limits: [0, 1200]"))
    arguments = run(machine, schema.conninfo, "--schema", schema.name)
    check(Says(USAGE, "'ald-1' is in this database with another parameter map"), "run", other, *arguments[2:])
    assert schema.contents() == before


def test_embedded_database_without_a_folder_to_live_in(machine: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    says = Says(AROUND_US, "the embedded PostgreSQL cannot use .*PLCSIM_DATA_DIR")
    check(says, *run(machine, "")[:4], PLCSIM_DATA_DIR=str(tmp_path / "file"))


def test_embedded_database_is_the_default_and_stops_with_the_last(machine: Emulator) -> None:
    folder = reachable_folder()
    ended = plclogger(
        *run(machine, "")[:4], "--for", "0.2s", "--interval", "50ms", PLCSIM_DATA_DIR=str(folder)
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "into the embedded PostgreSQL" in ended.stdout
    assert not (folder / "postgresql" / "data" / "postmaster.pid").exists()
    EmbeddedPostgres(folder / "postgresql").remove()
    folder.rmdir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        *([name, "--help"] for name in ("run", "plan", "probe", "status", "void", "quarantine", "maintain")),
        *(["quarantine", name, "--help"] for name in ("list", "show", "insert", "export")),
    ],
)
def test_help_has_an_example(arguments: list[str]) -> None:
    ended = plclogger(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Example: plclogger" in ended.stdout


def test_plan_shows_the_four_requests_of_the_machine() -> None:
    ended = plclogger("plan", ALD_FILE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.partition(":")[0] for line in ended.stdout.splitlines()] == [
        "1. coil 0 to 42",
        "2. holding_register 100 to 134",
        "3. input_register 0 to 93",
        "4. input_register 200 to 213",
    ]
