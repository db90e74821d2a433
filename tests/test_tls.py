"""Modbus/TCP Security: who may connect, what a role may do, and what is wrong with the settings."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import DEADLINE_S, RawClient, emulating, frame
from fix_faults import Site, serving
from fix_server import configured
from fix_tls import PRINTABLE_STRING, Certificates, Identity, TlsClient
from waiting import wait_for

from plcsim.device import Device
from plcsim.faults.rules import FAULT_RULE
from plcsim.parameters import Table
from plcsim.unit import Unit

ROLES = {"operator": "read_write", "viewer": "read"}
READ, REPLY = bytes.fromhex("03 0007 0001"), bytes.fromhex("03 02 0007")
WRITES = {
    "05 0022 ff00": "85 01",
    "06 0007 0001": "86 01",
    "0f 0064 0001 01 01": "8f 01",
    "10 0007 0001 02 0001": "90 01",
    "16 0007 0000 0001": "96 01",
    "17 0007 0001 0007 0001 02 0001": "97 01",
    "08 000a 0000": "88 01",
    "15 09 06 0001 0000 0001 1111": "95 01",
}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def settings(certificates: Certificates, **changes: Any) -> dict[str, Any]:
    server = certificates.server
    tls = {"port": 0, "certificate": str(server.certificate), "key": str(server.key), "roles": ROLES}
    return {
        "tls": tls | {"client_ca": str(certificates.authority.certificate)} | changes,
        "functions": {"diagnostics": True, "files": {1: [0]}},
    }


@pytest.fixture
def site(flat_file: Path, certificates: Certificates, either_loop: bool) -> Iterator[Site]:
    config = configured(flat_file, settings(certificates))
    with serving(lambda: {1: Unit(Device(config))}, either_loop) as running:
        yield running


Connect = Callable[..., TlsClient]


@pytest.fixture
def connect(site: Site, certificates: Certificates) -> Connect:
    """Connects with a role, or with the certificate that is given."""

    def make(
        role: str | None = None,
        *,
        identity: Identity | None = None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        **keys: Any,
    ) -> TlsClient:
        port = site.server.tls_port
        assert port
        shown = identity or certificates.authority.issue("client", role, **keys)
        return TlsClient(port, certificates.authority, shown, version)

    return make


@pytest.mark.parametrize("version", VERSIONS)
def test_a_role_that_may_write_reads_and_writes(connect: Connect, version: ssl.TLSVersion) -> None:
    with connect("operator", version=version) as client:
        assert client.ask(READ) == REPLY
        for request, refused in WRITES.items():
            assert client.ask(bytes.fromhex(request))[0] == int(refused[:2], 16) - 0x80
        assert client.ask(READ) == bytes.fromhex("03 02 0001")


def test_a_role_that_may_read_reads_and_no_more(connect: Connect) -> None:
    with connect("viewer") as client:
        for request, refused in WRITES.items():
            assert client.ask(bytes.fromhex(request)) == bytes.fromhex(refused)
        assert client.ask(READ) == REPLY
        assert client.ask(bytes.fromhex("0b"))[0] == 0x0B
        assert client.ask(bytes.fromhex("2b 0e 01 00"))[0] == 0x2B


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"role": "visitor"},
        {"role": ""},
        {"role": "operator", "tag": PRINTABLE_STRING},
        {"role": "Operator"},
    ],
    ids=["none", "unknown", "empty", "not UTF8String", "other case"],
)
def test_without_a_known_role_everything_is_refused(connect: Connect, keys: dict[str, Any]) -> None:
    with connect(**keys) as client:
        for request, refused in (WRITES | {READ.hex(): "83 01", "2b 0e 01 00": "ab 01"}).items():
            assert client.ask(bytes.fromhex(request)) == bytes.fromhex(refused)


def assert_refused(site: Site, certificates: Certificates, identity: Identity | None, version: Any) -> None:
    """The server ends the handshake; with TLS 1.3 the client learns it when it reads."""
    assert site.server.tls_port
    port, authority = site.server.tls_port, certificates.authority
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        TlsClient(port, authority, identity, version) as client,
    ):
        client.ask(READ)
    assert site.server.connections == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_who_shows_no_certificate_is_refused(
    site: Site, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    assert_refused(site, certificates, None, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_another_authority_is_refused(
    site: Site, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    assert_refused(site, certificates, certificates.stranger.issue("foreign", "operator"), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_expired_certificate_is_refused(
    site: Site, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    assert_refused(site, certificates, certificates.authority.issue("old", "operator", expired=True), version)


def test_on_the_plain_port_nobody_shows_who_he_is(site: Site) -> None:
    with site.connect() as client:
        assert client.ask(READ) == REPLY
        assert client.ask(bytes.fromhex("06 0007 0001"))[0] == 6


def test_plain_modbus_on_the_secure_port_is_not_served(site: Site, connect: Connect) -> None:
    assert site.server.tls_port
    with RawClient(site.server.tls_port) as plain:
        plain.send(frame(READ))
        assert REPLY not in plain.rest()
    with connect("viewer") as client:
        assert client.ask(READ) == REPLY


def test_many_requests_in_one_piece_are_all_answered(connect: Connect) -> None:
    largest, count = bytes.fromhex("03 0064 007d"), 2000
    with connect("viewer") as client:
        client.send(b"".join(frame(largest, n) for n in range(count)))
        assert [client.reply()[0] for _ in range(count)] == list(range(count))


def test_what_is_not_modbus_is_closed_there_too(connect: Connect) -> None:
    with connect("viewer") as client:
        client.send(frame(READ) + b"GET / HTTP/1.1\r\n\r\n")
        assert client.rest() == frame(REPLY)


def test_a_reset_fault_ends_a_secure_connection(site: Site, connect: Connect) -> None:
    site.add("reset")
    with connect("viewer") as client:
        client.send(frame(READ))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.receive(1)


@pytest.fixture
def tls_file(flat_file: Path, tmp_path: Path, certificates: Certificates) -> Callable[..., Path]:
    """Writes a device file whose TLS settings name files in its own folder."""

    def write(**changes: Any) -> Path:
        document = yaml.safe_load(flat_file.read_text(encoding="utf-8"))
        server = certificates.server
        for name, path in (
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("other.key", certificates.authority.issue("other").key),
            ("ca.pem", certificates.authority.certificate),
        ):
            tmp_path.joinpath(name).write_bytes(path.read_bytes())
        tmp_path.joinpath("text.pem").write_text("this is no certificate\n", encoding="utf-8")
        tls = {
            "port": 0,
            "certificate": "server.crt",
            "key": "server.key",
            "client_ca": "ca.pem",
            "roles": ROLES,
        }
        document["server"] = {"tls": tls | changes}
        path = tmp_path / "secure.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return write


def test_files_are_looked_for_beside_the_device_file(
    tls_file: Callable[..., Path], certificates: Certificates
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with emulating(tls_file(port=port)) as emulator:
        client = TlsClient(port, certificates.authority, certificates.authority.issue("viewer", "viewer"))
        with client, emulator.connect() as plain:
            assert [client.ask(READ), plain.ask(READ)] == [REPLY, REPLY]
        assert f" ms; TLS at port {port}; Ctrl-C stops" in emulator.banner


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"certificate": "none.crt"}, "none.crt: no such file"),
        ({"key": "none.key"}, "none.key: no such file"),
        ({"client_ca": "none.pem"}, "none.pem: no such file"),
        ({"certificate": "text.pem"}, "text.pem: cannot be used with"),
        ({"key": "other.key"}, "server.crt: cannot be used with"),
        ({"client_ca": "text.pem"}, "text.pem: is not a certificate of an authority"),
        ({"roles": {}}, "server.tls.roles: "),
        ({"roles": {"a": "write"}}, "server.tls.roles.a: "),
        ({"port": 70000}, "server.tls.port: 70000"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    tls_file: Callable[..., Path], changes: dict[str, Any], complaint: str
) -> None:
    command = [sys.executable, "-m", "plcsim", "run", str(tls_file(**changes)), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_behind_a_broken_header_is_carried_out(
    certificates: Certificates, flat_file: Path, either_loop: bool
) -> None:
    write_register = bytes.fromhex("06 0007 0001")
    config = configured(flat_file, settings(certificates))
    shown = certificates.authority.issue("client", "operator")
    with serving(lambda: {1: Unit(Device(config))}, either_loop) as site:

        def registers() -> bytes:
            return site.call(lambda: site.unit().device.images[Table.HOLDING_REGISTER].data)

        before = registers()
        assert site.server.tls_port
        with TlsClient(site.server.tls_port, certificates.authority, shown, ssl.TLSVersion.TLSv1_3) as client:
            client.send(bytes.fromhex("0001 0009 0006 01") + bytes(253) + frame(write_register))
            client.rest()
        assert registers() == before


def test_a_restart_lands_although_a_secure_connection_is_just_closing(site: Site, connect: Connect) -> None:
    """TLS loses its socket some turns of the event loop before anybody hears of it."""

    def restart_after(turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(restart_after, turns - 1)
        else:
            site.unit().faults.add(FAULT_RULE.validate_python({"kind": "restart"}))

    def reset_and_restart(turns: int) -> None:
        for connection in list(site.server._connections):
            connection.reset()
        restart_after(turns)

    for turns in range(8):
        with connect("viewer") as client:
            client.send(frame(READ))
            client.reply()
            site.call(lambda turns=turns: reset_and_restart(turns))  # type: ignore[misc]
            wait_for(lambda turns=turns: len(site.events()) == turns + 1)  # type: ignore[misc]
    assert [event.kind for event in site.events()] == 8 * ["restart"]


def test_who_has_no_role_does_not_learn_which_devices_there_are(
    certificates: Certificates, flat_file: Path
) -> None:
    config = configured(flat_file, settings(certificates) | {"unit_policy": "strict_exception"})
    shown = certificates.authority.issue("client")
    with serving(lambda: {1: Unit(Device(config))}) as site:
        assert site.server.tls_port
        with TlsClient(site.server.tls_port, certificates.authority, shown, ssl.TLSVersion.TLSv1_3) as client:
            client.send(frame(READ, unit=1) + frame(READ, unit=99))
            assert [client.reply()[2].hex() for _ in range(2)] == ["8301", "8301"]
