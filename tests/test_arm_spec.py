"""Arm specs: what is wrong is told in one line; settings are in the database afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fix_postgres import Schema

from bench.arms.spec import SHARED_SYNCHRONIZING, known_arms, parse_arm
from bench.load import workload
from bench.load.workload import SlotRequest, SlotResult, WorkerSettings
from bench.oracle.verify import verify
from logger.database import register_device
from logger.repositories import REPOSITORIES, SharedSynchronizingRepository, SynchronizingRepository
from plcsim.errors import InputError

N = 5


@pytest.mark.parametrize("text", [*REPOSITORIES, "strategy:in_case", SHARED_SYNCHRONIZING])
def test_our_own_arms_are_known_and_keep_our_tables(text: str) -> None:
    spec = parse_arm(text)
    assert (spec.text, spec.base, spec.is_ours, spec.pool) == (text, text, True, None)
    assert spec.repository_class().name in REPOSITORIES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("best", "'best' is not an arm; there are baseline, synchronizing, strategy:array_join"),
        ("strategy:best", "is not an arm"),
        ("", "'' is not an arm"),
        ("baseline+fast", "'fast' is no setting; there are fillfactor="),
        ("baseline+fillfactor=", "'fillfactor=' is no setting"),
        ("baseline+fillfactor=5", "fillfactor=5: must be a percentage from 10 to 100"),
        ("baseline+fillfactor=x:y", "fillfactor=x:y: must be a percentage"),
        ("baseline+fillfactor=50+fillfactor=60", "fillfactor is set twice"),
        ("baseline+synchronous_commit=never", "must be one of on, off, local"),
        ("baseline+trigger=maybe", "trigger=maybe: must be on or off"),
        ("baseline+pool=0", "pool=0: must be from 1 to 200 connections"),
        ("nowhere.sql", "nowhere.sql: cannot be read: No such file"),
        ("no.such:Thing", "module 'no.such' cannot be imported"),
        ("json:Thing", "module 'json' has no class 'Thing'; it has JSONDecodeError"),
        ("json:JSONDecoder", "class JSONDecoder has no method store(batch)"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_arm(text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_several_writers_of_a_device_lock_it_first() -> None:
    assert parse_arm("synchronizing").repository_class() is SynchronizingRepository
    shared = parse_arm("synchronizing+fillfactor=70").repository_class(several_writers=True)
    assert issubclass(shared, SynchronizingRepository)
    assert shared.shared_device
    assert parse_arm(SHARED_SYNCHRONIZING).repository_class() is SharedSynchronizingRepository
    assert parse_arm("baseline").repository_class(several_writers=True) is REPOSITORIES["baseline"]


def test_all_known_arms_parse() -> None:
    assert {parse_arm(text).text for text in known_arms()} == set(known_arms())


def prepared(schema: Schema, text: str) -> None:
    parse_arm(text).prepare_schema(schema.connect(), schema.name)


def options_of(schema: Schema, table: str) -> list[str]:
    found = schema.value("SELECT reloptions FROM pg_class WHERE oid = %s::regclass", f"{schema.name}.{table}")
    return list(found)


def test_settings_of_tables_are_made(schema: Schema) -> None:
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = 'component_parameters'"
    assert "fillfactor=50" in options_of(schema, "component_parameters")
    before = schema.value(indexes, schema.name)
    prepared(schema, "synchronizing+fillfactor=73+index=current_value")
    assert "fillfactor=73" in options_of(schema, "component_parameters")
    assert schema.value(indexes, schema.name) == before + 1
    prepared(schema, "synchronizing+fillfactor=logging_streams:91+index=logging_streams.writer")
    assert "fillfactor=91" in options_of(schema, "logging_streams")


def test_triggers_are_switched_off_and_only_when_it_is_said(schema: Schema) -> None:
    enabled = """SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = %s::regnamespace AND NOT t.tgisinternal AND t.tgenabled = 'O'"""
    prepared(schema, "baseline+trigger=on")
    assert schema.value(enabled, schema.name) > 7
    prepared(schema, "baseline+trigger=off")
    assert schema.value(enabled, schema.name) == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("fillfactor=readings:70", "names table 'readings'; there are compensations, component_parameters"),
        ("index=colour", "names column 'colour' of component_parameters; there are scan, last_attempt_scan"),
    ],
)
def test_a_setting_of_what_is_not_there_is_refused(schema: Schema, setting: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepared(schema, f"synchronizing+{setting}")


@pytest.fixture
def run(schema: Schema) -> Iterator[object]:
    """Runs a slot of an arm in this process."""

    def ran(text: str, **request: float) -> SlotResult:
        settings = WorkerSettings(schema.conninfo, schema.name, text, (N,), running=True)
        for config in settings.configs():
            register_device(schema.connect(), config)
        prepared(schema, text)
        workload.prepare(settings)
        return workload.run_slot(SlotRequest(N, **{"ramp_s": 0.0, "saturated_s": 0.1, **request}))

    yield ran
    workload.close()


def test_the_session_of_an_arm_has_its_setting(schema: Schema) -> None:
    for text, expected in (("baseline", "on"), ("baseline+synchronous_commit=off", "off")):
        connection = schema.connect()
        parse_arm(text).open(connection)
        assert connection.execute("SHOW synchronous_commit").fetchone() == (expected,)


def test_an_arm_with_a_pool_stores_the_same_and_tells_the_wait(schema: Schema, run: object) -> None:
    assert callable(run)
    result = run("synchronizing+pool=3+synchronous_commit=off")
    assert result.saturated.failures == {}
    assert result.saturated.pool_wait.count == result.saturated.transactions > 0
    assert result.saturated.pool_wait.max_us < 1e6
    assert result.saturated.backend_cpu_s is not None
    assert result.backend_bytes > 1_000_000
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'plcsim' AND state = 'idle'"
    assert schema.value(sessions) >= 3
    verification = verify(schema.connect())
    assert (verification.violations, verification.rows) == (0, result.scans * N)


def test_several_scans_of_a_transaction_are_counted(schema: Schema, run: object) -> None:
    assert callable(run)
    result = run("baseline", scans=4)
    assert result.scans == 4 * result.transactions > 0
    assert schema.value("SELECT count(*) FROM parameter_value_history") == result.scans * N
    assert schema.value("SELECT count(*) FROM logging_transactions") == result.transactions
    assert result.saturated.pool_wait.count == 0
