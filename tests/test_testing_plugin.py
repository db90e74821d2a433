"""The fixtures for other projects: the examples of docs/testing.md, and what they promise besides."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest
import yaml
from fix_emulator import ALD_FILE, RawClient
from waiting import wait_for

from plcsim.errors import ConfigError, InputError, PlcsimError
from plcsim.testing import Plc, RunningFleet, device_config

pytest_plugins = ["pytester"]

DOCUMENT = Path(__file__).parent.parent / "docs" / "testing.md"
READ_SCAN = bytes.fromhex("04 0000 0002")
SETPOINT = "chamber.pressure_setpoint"


def test_the_examples_of_the_document_pass(pytester: pytest.Pytester) -> None:
    conftest, one_plc, fleet = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    pytester.makeconftest(conftest)
    pytester.makepyfile(one_plc + fleet)
    done = pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error")
    done.assert_outcomes(passed=4)


def test_what_a_test_started_has_ended_with_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["plcsim.testing"]')
    pytester.makepyfile(
        f"""
        import socket, threading
        import pytest

        left = []

        def test_one(plc):
            left.append(plc({str(ALD_FILE)!r}))
            socket.create_connection((left[0].host, left[0].port)).close()
            assert any(t.name == "plcsim" for t in threading.enumerate())

        def test_two():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((left[0].host, left[0].port))
            assert not any(t.name == "plcsim" for t in threading.enumerate())
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error").assert_outcomes(passed=2)


@pytest.fixture
def ald() -> Plc:
    """A Plc that is stopped by the test that takes it."""
    return Plc(device_config(ALD_FILE, plc_scan_ms=20))


def test_files_are_looked_for_beside_the_device_file(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["plcsim.testing"]')
    folder = pytester.mkdir("devices")
    content = yaml.safe_load(ALD_FILE.read_text(encoding="utf-8"))
    tls = {
        "port": 0,
        "certificate": "a.crt",
        "key": "a.key",
        "client_ca": "ca.pem",
        "roles": {"a": "read"},
    }
    (folder / "device.yaml").write_text(yaml.safe_dump(content | {"server": {"tls": tls}}))
    pytester.makepyfile(
        """
        import pytest
        from plcsim.errors import InputError

        def test_one(plc):
            with pytest.raises(InputError, match="devices/a.crt"):
                plc("devices/device.yaml")
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error").assert_outcomes(passed=1)


def test_values_are_the_truth_of_the_plc_scan(ald: Plc) -> None:
    name = "controller.plc_scan"
    first = ald.plc_scan
    value = wait_for(lambda: ald.value(name) > first and ald.value(name))
    assert value <= ald.plc_scan
    assert ald.truth.value_at(1, int(value)) == value
    ald.stop()


def test_set_shows_at_once_and_is_told_as_a_local_write(ald: Plc) -> None:
    assert ald.value(SETPOINT) != 5
    ald.set(SETPOINT, 5)
    assert ald.value(SETPOINT) == 5
    (write,) = ald.writes()
    assert (write.origin.peer, write.changes[0].write.value) == ("local", 5)
    ald.stop()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("chamber.pressure", "is not writable"), ("chamber.nothing", "is not a parameter")],
)
def test_what_cannot_be_set_is_refused(ald: Plc, name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        ald.set(name, 1.0)
    assert ald.writes() == []
    ald.stop()


def test_a_power_cut_resets_connections_and_may_last(ald: Plc) -> None:
    with RawClient(ald.port) as client:
        client.ask(READ_SCAN)
        ald.restart(down_s=0.5)
        assert client.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        RawClient(ald.port)
    wait_for(lambda: connects(ald.port))
    ald.stop()


def connects(port: int) -> bool:
    try:
        RawClient(port).socket.close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_stopped_plc_refuses_connections_and_questions(ald: Plc) -> None:
    assert connects(ald.port)
    ald.stop()
    ald.stop()
    assert not connects(ald.port)
    with pytest.raises(PlcsimError, match="was stopped"):
        ald.value(SETPOINT)


def test_it_may_be_asked_from_many_threads(ald: Plc) -> None:
    def write(value: int) -> None:
        for _ in range(20):
            ald.set(SETPOINT, value)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ald.writes()) == 80
    ald.stop()


def test_overrides_reach_their_section() -> None:
    config = device_config(ALD_FILE, seed=5, unit_id=7, faults=[{"kind": "busy"}])
    assert (config.device.seed, config.modbus.unit_id, len(config.faults)) == (5, 7, 1)
    assert config.device.device_id == device_config(config).device.device_id == "ald-1"
    with pytest.raises(ConfigError, match="colour: is not a known key here"):
        device_config(ALD_FILE, colour="red")


def test_a_fault_that_is_wrong_is_refused_and_none_is_added(ald: Plc) -> None:
    with pytest.raises(ConfigError, match="seconds: is missing"):
        ald.faults.add(kind="delay")
    assert ald.faults.list() == []
    with pytest.raises(InputError, match="there is no such fault"):
        ald.faults.landed("delay-1")
    assert ald.faults.landed() == 0
    ald.stop()


def test_a_fleet_that_cannot_start_says_why(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path.write_text(f"devices: [{{template: {ALD_FILE}, device_id: a, port: {port}}}]\n")
        with pytest.raises(PlcsimError, match=rf"cannot listen at 127\.0\.0\.1:{port}: "):
            RunningFleet(path).__enter__()
