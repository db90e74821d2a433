"""Faults on a secure connection: what ends it ends it there too, and the rest is the same bytes inside."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier
from fix_emulator import DEADLINE_S, frame
from fix_faults import Site, serving, units_of
from waiting import wait_for

READ_ONE = bytes.fromhex("03 0000 0001")
ONE = bytes.fromhex("03 02 1234")
ROLE = ObjectIdentifier("1.3.6.1.4.1.50316.802.1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate, signed by itself, for both ends; its key is in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.UnrecognizedExtension(ROLE, b"\x0c\x08operator"), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.fixture
def site(flat_file: Path, tmp_path: Path, certificate: Path, either_loop: bool) -> Iterator[Site]:
    where = str(certificate)
    tls = {"port": 0, "certificate": where, "key": where, "client_ca": where}
    content = yaml.safe_load(flat_file.read_text())
    content["server"] = {"tls": tls | {"roles": {"operator": "read_write"}}}
    path = tmp_path / "secure.yaml"
    path.write_text(yaml.safe_dump(content))
    with serving(units_of(path), either_loop) as site:
        yield site


@pytest.fixture
def client(site: Site, certificate: Path) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(certificate))
    context.load_cert_chain(certificate)
    port = site.server.tls_port
    assert port
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        yield secure


def ask(client: ssl.SSLSocket) -> bytes:
    """The frame that answers, or what came of it up to the end."""
    client.sendall(frame(READ_ONE))
    got = b""
    while len(got) < len(frame(ONE)) and (part := client.recv(1000)):
        got += part
    return got


def end_of(client: ssl.SSLSocket) -> str:
    """How the TCP connection below ends: what Python's TLS says is the same for RST and FIN."""
    with socket.socket(fileno=os.dup(client.fileno())) as plain:
        plain.settimeout(DEADLINE_S)
        try:
            while plain.recv(1000):
                pass
        except ConnectionResetError:
            return "reset"
        return "closed"


def test_without_a_fault_all_is_well(client: ssl.SSLSocket) -> None:
    assert ask(client) == frame(ONE)


def test_faults_of_bytes_and_time(site: Site, client: ssl.SSLSocket) -> None:
    site.add("wrong_transaction_id", count=1)
    site.add("drip", interval_s=0.005)
    site.add("delay", seconds=0.05)
    assert ask(client) == frame(ONE, 0x1235)
    assert ask(client) == frame(ONE)
    assert len(site.events()) == 5


def test_truncate(site: Site, client: ssl.SSLSocket) -> None:
    site.add("truncate", bytes=3)
    assert ask(client) == frame(ONE)[:3]
    assert client.recv(1) == b""
    client.close()
    wait_for(lambda: not site.server.connections, what="the end of the connection")


def test_reset(site: Site, client: ssl.SSLSocket) -> None:
    site.add("reset")
    client.sendall(frame(READ_ONE))
    assert end_of(client) == "reset"


def test_half_open(site: Site, client: ssl.SSLSocket) -> None:
    site.add("half_open")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(client)
    assert site.server.connections == 1
    client.close()
    wait_for(lambda: not site.server.connections, what="the client's leaving")


def test_restart_and_refuse(site: Site, client: ssl.SSLSocket) -> None:
    assert ask(client) == frame(ONE)
    site.add("restart", for_s=60)
    assert end_of(client) == "reset"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.server.tls_port or 0), DEADLINE_S)
