"""Certificates for tests: authorities, servers and clients with and without a Modbus role."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from fix_emulator import RawClient

ROLE_OID = ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
UTF8_STRING, PRINTABLE_STRING = 0x0C, 0x13
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; its own is in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        signed = (
            _builder(self._name, self._name, self._key.public_key(), expired=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, role: str | None = None, *, tag: int = UTF8_STRING, expired: bool = False
    ) -> Identity:
        """A certificate for 127.0.0.1; its role, if it has one, is an ASN.1 string with that tag."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            _builder(subject, self._name, key.public_key(), expired)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if role is not None:
            text = role.encode()
            value = bytes((tag, len(text))) + text
            builder = builder.add_extension(x509.UnrecognizedExtension(ROLE_OID, value), critical=False)
        identity = Identity(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pem = serialization.Encoding.PEM
        identity.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(pem))
        identity.key.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return identity


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, expired: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    start, end = (now - 9 * DAY, now - DAY) if expired else (now - DAY, now + DAY)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


@dataclass(frozen=True)
class Certificates:
    """Who there is: the plant's authority, a server that it knows, and a stranger's authority."""

    authority: Authority
    stranger: Authority
    server: Identity


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "plant")
    return Certificates(authority, Authority(folder, "stranger"), authority.issue("server"))


class TlsClient(RawClient):
    """A client over TLS; with no identity it shows no certificate."""

    def __init__(
        self,
        port: int,
        authority: Authority,
        identity: Identity | None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = version
        context.load_verify_locations(authority.certificate)
        if identity:
            context.load_cert_chain(identity.certificate, identity.key)
        super().__init__(port)
        try:
            # an end without a farewell is an error, as it should be
            self.socket = context.wrap_socket(
                self.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            )
        except OSError:
            self.socket.close()
            raise
