"""From the emulator over Modbus TCP into PostgreSQL, by the program itself, through stops and outages."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml
from fix_emulator import ALD_FILE, Emulator, emulating
from fix_logger import Logger, check_against_truth, logging_into, stored_scans
from fix_postgres import Schema
from fix_proxy import Proxy
from pyModbusTCP.server import ModbusServer
from waiting import wait_for

from plcsim.config import DeviceConfig

FAST = ("--interval", "50ms", "--json")


def check_stream(schema: Schema, size: int = 84) -> None:
    """The stream is contiguous, and each of its transactions has the rows that it says."""
    ledger = schema.rows(
        "SELECT first_scan, last_scan, history_rows, (SELECT count(*) FROM parameter_value_history h"
        " WHERE h.transaction_id = t.transaction_id), (SELECT count(*) FROM scan_gaps g"
        " WHERE g.transaction_id = t.transaction_id) FROM logging_transactions t ORDER BY first_scan"
    )
    expected = 1
    for first, last, claimed, rows, gaps in ledger:
        assert first == expected
        assert claimed == rows == (0 if gaps else (last - first + 1) * size)
        expected = last + 1
    assert schema.value("SELECT last_scan FROM logging_streams") == expected - 1


@pytest.mark.parametrize("repository", ["baseline", "synchronizing"])
def test_machine_is_logged_for_a_while(
    schema: Schema, machine: Emulator, ald: DeviceConfig, repository: str
) -> None:
    with logging_into(schema, machine.port, *FAST, "--for", "0.8s", "--repository", repository) as logger:
        ended = logger.wait()
    assert (ended.code, ended.complaints) == (0, "")
    figures = ended.figures
    assert figures["device_id"] == "ald-1"
    assert (figures["parameters"], figures["requests"]) == (84, 4)
    assert 4 <= figures["scans"] <= 17
    assert figures["scans"] == figures["stored_scans"] == stored_scans(schema)
    assert figures["stored_rows"] == 84 * figures["scans"]
    assert (figures["read_errors"], figures["spooled"], figures["reconnects"]) == (0, 0, 0)
    assert 0 < figures["commit_p99_ms"] < 5000
    check_stream(schema)
    assert check_against_truth(schema, ald) == figures["stored_rows"]
    current = schema.value("SELECT count(*) FROM component_parameters WHERE current_value IS NOT NULL")
    assert current == (84 if repository == "synchronizing" else 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_finishes_the_scan_in_hand(schema: Schema, machine: Emulator, number: signal.Signals) -> None:
    with logging_into(schema, machine.port, "--interval", "50ms") as logger:
        wait_for(lambda: stored_scans(schema) >= 3, 20, "three scans")
        ended = logger.stop(number)
    assert (ended.code, ended.complaints) == (0, "")
    banner, *_, last = ended.said.splitlines()
    assert "ald-1: 84 parameters in 4 requests" in banner
    said = re.match(r"stopped: (\d+) scans stored", last)
    assert said
    assert int(said[1]) == stored_scans(schema)
    assert schema.value("SELECT count(*) FROM parameter_value_history") == 84 * int(said[1])
    check_stream(schema)


def test_restarts_go_on_with_the_stream_and_the_process(
    schema: Schema, machine: Emulator, ald: DeviceConfig
) -> None:
    running = "SELECT count(*) FROM process_executions WHERE ended_at IS NULL"
    with logging_into(schema, machine.port, *FAST) as first:
        wait_for(lambda: schema.value(running), 20, "the recipe to run")
        first.process.kill()  # in the middle of whatever it does
    stood_at = schema.value("SELECT last_scan FROM logging_streams")
    for _ in range(2):
        with logging_into(schema, machine.port, *FAST, "--for", "0.3s") as again:
            assert again.wait().code == 0
    assert schema.value("SELECT last_scan FROM logging_streams") > stood_at + 4
    check_stream(schema)
    assert check_against_truth(schema, ald) == schema.value("SELECT count(*) FROM parameter_value_history")
    assert schema.value("SELECT count(*) - count(DISTINCT plc_number) FROM process_executions") == 0


def test_lost_plc_is_bad_quality_until_it_is_back(
    schema: Schema, ald: DeviceConfig, start_logger: Callable[..., Logger]
) -> None:
    bad = "SELECT count(DISTINCT scan) FROM parameter_value_history WHERE quality IN (8, 24)"
    good = "SELECT count(DISTINCT scan) FROM parameter_value_history WHERE quality = 192 AND scan > %s"
    with emulating(ALD_FILE) as emulator:
        logger = start_logger(schema, emulator.port, *FAST)
        wait_for(lambda: stored_scans(schema) >= 3, 20, "three scans")
    wait_for(lambda: schema.value(bad) >= 3, what="scans without a PLC")
    stood_at = schema.value("SELECT last_scan FROM logging_streams")
    with emulating(ALD_FILE, "--port", str(emulator.port)):
        wait_for(lambda: schema.value(good, stood_at) >= 3, what="good scans again")
        ended = logger.stop()
    assert ended.code == 0
    assert ended.figures["read_errors"] >= 12
    assert 2 <= len(ended.complaints.splitlines()) <= 5  # the outage is told, not every scan of it
    assert "answers everything again" in ended.complaints
    check_stream(schema)
    check_against_truth(schema, ald)
    null = "SELECT count(*) FROM parameter_value_history WHERE (value IS NULL) <> (quality <> 192)"
    assert schema.value(null) == 0


def test_lost_database_connections_lose_nothing(
    schema: Schema, machine: Emulator, proxy: Proxy, ald: DeviceConfig
) -> None:
    with logging_into(schema, machine.port, *FAST, conninfo=proxy.conninfo) as logger:
        for cut in range(1, 4):
            wait_for(lambda cut=cut: stored_scans(schema) >= 4 * cut, 20, "more scans")
            proxy.cut_all()
        wait_for(lambda: stored_scans(schema) >= 16, 20, "the last scans")
        ended = logger.stop()
    assert ended.code == 0
    assert ended.figures["reconnects"] == 3
    assert ended.figures["scans"] == ended.figures["stored_scans"] == stored_scans(schema)
    assert sum(ended.figures["retries"].values()) == 3
    assert ended.complaints == ""  # there was another connection at once
    check_stream(schema)
    check_against_truth(schema, ald)


def test_health_says_that_the_database_is_away_until_it_is_back(
    schema: Schema, machine: Emulator, proxy: Proxy, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = (*FAST, "--metrics", f"127.0.0.1:{port}")
    with logging_into(schema, machine.port, *options, conninfo=proxy.conninfo, spool=tmp_path) as logger:
        wait_for(lambda: health(port)[0] == 200, 20, "a logger that is well")
        proxy.refuses = True
        proxy.cut_all()
        wait_for(lambda: health(port)[0] == 503, 20, "a logger that is not well")
        assert "waiting for the database: " in health(port)[1]
        proxy.refuses = False
        wait_for(lambda: health(port)[0] == 200, 20, "a logger that is well again")
        assert logger.stop().code == 0
    assert proxy.landed["refused"] > 0
    check_stream(schema)


def health(port: int) -> tuple[int, str]:
    """Status and body of /health; 0 while nobody answers."""
    client = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("GET", "/health")
        reply = client.getresponse()
        return reply.status, reply.read().decode()
    except OSError:
        return 0, ""
    finally:
        client.close()


def test_second_logger_of_a_stream_stops_one_of_the_two(
    schema: Schema, machine: Emulator, start_logger: Callable[..., Logger], tmp_path: Path
) -> None:
    """Each with a spool of its own: the second takes the stream over, the first stores no more."""
    loggers = [start_logger(schema, machine.port, *FAST, spool=tmp_path / name) for name in "ab"]
    wait_for(lambda: any(one.process.poll() is not None for one in loggers), 20, "one to stop")
    loser, winner = sorted(loggers, key=lambda one: one.process.returncode is None)
    lost = loser.wait()
    assert (lost.code, lost.said) == (1, "")
    line = lost.complaints.splitlines()[-1]
    assert "was taken over by another logger" in lost.complaints
    assert "were not stored" in line
    assert winner.stop().code == 0
    check_stream(schema)


def test_two_loggers_with_streams_of_their_own_get_along(
    schema: Schema, machine: Emulator, start_logger: Callable[..., Logger]
) -> None:
    options = (*FAST, "--for", "0.4s", "--repository", "baseline", "--stream")
    loggers = [start_logger(schema, machine.port, *options, stream) for stream in (1, 2)]
    assert [logger.wait().code for logger in loggers] == [0, 0]
    assert schema.value("SELECT count(*) FROM logging_streams WHERE last_scan >= 3") == 2


def test_plc_that_is_not_ours_is_logged(schema: Schema, tmp_path: Path) -> None:
    """pyModbusTCP's server, with registers, inputs and coils that say their values."""
    places = {
        "holding_register": [("uint16", 65535.0), ("float32", 123456.0)],
        "input_register": [("int16", -2.0), ("uint32", 4294967295.0)],
        "coil": [("bool", 1.0)],
        "discrete_input": [("bool", 1.0)],
    }
    groups, number = [], 0
    for table, values in places.items():
        parameters = []
        for i, (data_type, _) in enumerate(values):
            number += 1
            parameters.append(
                {"id": number, "component": table, "name": f"p{i}", "address": 10 + i, "type": data_type}
            )
        groups.append({"name": table, "table": table, "parameters": parameters})
    device_file = tmp_path / "foreign.yaml"
    device_file.write_text(yaml.safe_dump({"device": {"device_id": "foreign"}, "groups": groups}))
    server = ModbusServer("127.0.0.1", 0, no_block=True)
    server.start()
    bank = server.data_bank
    bank.set_holding_registers(10, [65535, 0x47F1, 0x2000])
    bank.set_input_registers(10, [65534, 65535, 65535])
    bank.set_coils(10, [True])
    bank.set_discrete_inputs(10, [True])
    try:
        port = server._service.server_address[1]
        with logging_into(schema, port, *FAST, "--for", "0.3s", device_file=device_file) as logger:
            ended = logger.wait()
    finally:
        server.stop()
    assert (ended.code, ended.complaints, ended.figures["requests"]) == (0, "", 4)
    expected = [value for values in places.values() for _, value in values]
    assert schema.rows(
        "SELECT DISTINCT parameter_id, value, quality FROM parameter_value_history ORDER BY 1"
    ) == [(n, value, 192) for n, value in enumerate(expected, 1)]
    now = schema.rows("SELECT current_value FROM component_parameters ORDER BY parameter_id")
    assert now == [(value,) for value in expected]
