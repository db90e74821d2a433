"""Modbus/TCP Security: mutual TLS, and what the role in a client's certificate lets it do.

Source: MODBUS/TCP Security Protocol Specification (MB-TCP-Security v2.1, 2018-07-24). The role is a
certificate extension, OID 1.3.6.1.4.1.50316.802.1, whose value is an ASN.1 UTF8String. Which role
may do what is the server's to say; a client without a known role may do nothing, and what it may not
do is answered with exception 01.
"""

from __future__ import annotations

import ssl
from asyncio import BaseTransport
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from plcsim.errors import InputError
from plcsim.server_config import Right, TlsSpec
from plcsim.tcp.rights import RightOf

ROLE_OID = ObjectIdentifier("1.3.6.1.4.1.50316.802.1")

_UTF8_STRING = 0x0C
_SHORT_FORM = 0x80


def right_by_role(roles: Mapping[str, Right]) -> RightOf:
    """Tells the right of a client by the role in its certificate."""

    def right_of(transport: BaseTransport) -> Right | None:
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        role = role_of(certificate) if certificate else None
        return roles.get(role) if role is not None else None

    return right_of


def role_of(certificate: bytes) -> str | None:
    """The role in a DER certificate; None if it has none, or none that can be read."""
    try:
        extension = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(ROLE_OID)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    value = extension.value
    return _utf8_string(value.value) if isinstance(value, x509.UnrecognizedExtension) else None


def _utf8_string(der: bytes) -> str | None:
    """Text of a DER UTF8String shorter than 128 bytes."""
    if len(der) < 2 or der[0] != _UTF8_STRING or der[1] >= _SHORT_FORM or der[1] != len(der) - 2:
        return None
    try:
        return der[2:].decode("utf-8")
    except UnicodeDecodeError:
        return None


def server_context(spec: TlsSpec, folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer; both sides must show a certificate. Paths are relative to `folder`.

    Raises InputError if a file is missing or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key, ca = (folder / name for name in (spec.certificate, spec.key, spec.client_ca))
    for path in (certificate, key, ca):
        if not path.is_file():
            raise InputError(f"{path}: no such file; server.tls needs a certificate, its key and a client CA")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as exc:
        raise InputError(f"{certificate}: cannot be used with {key}: {_reason(exc)}") from None
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as exc:
        raise InputError(f"{ca}: is not a certificate of an authority: {_reason(exc)}") from None
    return context


def _reason(exc: OSError) -> str:
    return getattr(exc, "reason", None) or exc.strerror or str(exc)
