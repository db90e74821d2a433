"""The `server:` section of a device file: how the emulator answers, beyond what the registers hold."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from plcsim.names import Printable

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,9}|0x[0-9A-Fa-f]{1,8})")


def _number(key: object) -> object:
    """Keys of YAML and JSON are text: "128" and "0x80" are the same."""
    return int(key, 0) if isinstance(key, str) and _NUMBER.fullmatch(key) else key


def _each_number_once(mapping: object) -> object:
    keys: dict[object, object] = {}
    for key in mapping if isinstance(mapping, dict) else ():
        if (number := _number(key)) in keys:
            raise ValueError(f"the keys {keys[number]} and {key} are the same number")
        keys[number] = key
    return mapping


NumberKey = BeforeValidator(_number)
Numbered = BeforeValidator(_each_number_once)
"""Of a mapping with such keys."""
Register = Annotated[int, Field(ge=0, le=0xFFFF)]
Text = Annotated[Printable, Field(max_length=240)]
ShortText = Annotated[Printable, Field(max_length=120)]
Path = Annotated[str, Field(min_length=1)]


class UnitPolicy(StrEnum):
    """What becomes of a request for a unit id that no device here has."""

    ANY = "any"
    """The one device answers it, as most devices do that are reached directly."""
    STRICT_SILENT = "strict_silent"
    """Nobody answers."""
    STRICT_EXCEPTION = "strict_exception"
    """Exception 0x0B, gateway target device failed to respond."""


class WhenFull(StrEnum):
    """Who has to go when a connection more than `max_connections` comes."""

    REFUSE_NEWEST = "refuse_newest"
    CLOSE_OLDEST_IDLE = "close_oldest_idle"
    """The one that has been silent longest."""


class Right(StrEnum):
    """What a role may do."""

    READ = "read"
    READ_WRITE = "read_write"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TlsSpec(_Strict):
    """Modbus/TCP Security: mutual TLS on a port of its own. Paths are relative to the device file."""

    port: int = Field(default=802, ge=0, le=65535)
    certificate: Path
    key: Path
    client_ca: Path
    """Whoever shows a certificate that this authority signed may connect."""
    roles: dict[str, Annotated[Right, Field(strict=False)]] = Field(min_length=1)
    """Rights of the role that the certificate's extension names; without a role there are none."""


class IdentificationSpec(_Strict):
    """Objects of function 43/14, read device identification."""

    vendor_name: Text = "plcsim"
    product_code: Text = "emulator"
    revision: Text = "1"
    vendor_url: Text | None = None
    product_name: Text | None = None
    model_name: Text | None = None
    user_application_name: Text | None = None
    private: Annotated[dict[Annotated[int, Field(ge=0x80, le=0xFF), NumberKey], Text], Numbered] = Field(
        default_factory=dict
    )
    """Extended objects by their id, 0x80 to 0xFF."""


class ServerIdSpec(_Strict):
    """Content of function 17, report server id."""

    id: ShortText
    running: bool = True
    additional: ShortText = ""


class FunctionsSpec(_Strict):
    """Functions that a device has only if its file says so; without it they are exception 01."""

    report_server_id: ServerIdSpec | None = None
    exception_status: int | None = Field(default=None, ge=0, le=255)
    """Function 7: its eight coils."""
    diagnostics: bool = False
    """Function 8: echo, counters and their clearing; function 11: the event counter."""
    files: Annotated[
        dict[
            Annotated[int, Field(ge=1, le=0xFFFF), NumberKey],
            Annotated[list[Register], Field(max_length=10_000)],
        ],
        Numbered,
    ] = Field(default_factory=dict)
    """Functions 20 and 21: registers of each file by its number."""
    fifo: Annotated[
        dict[Annotated[Register, NumberKey], Annotated[list[Register], Field(max_length=100)]], Numbered
    ] = Field(default_factory=dict)
    """Function 24: content of each queue by its pointer address; more than 31 is answered with 03."""


class ServerSpec(_Strict):
    """How the emulator answers; the logger has no use for it."""

    unit_policy: Annotated[UnitPolicy, Field(strict=False)] = UnitPolicy.ANY
    idle_timeout_s: float = Field(default=0.0, ge=0)
    """A connection that is silent so long is closed; 0 means never."""
    frame_timeout_s: float = Field(default=30.0, ge=0)
    """A request that is not complete so long after its first byte closes its connection; 0 means never."""
    max_connections: int = Field(default=0, ge=0)
    """0 means as many as the system allows."""
    when_full: Annotated[WhenFull, Field(strict=False)] = WhenFull.REFUSE_NEWEST
    max_outstanding: int = Field(default=16, ge=1, le=1024)
    """Requests of a connection that wait for their reply; more are read only after one of them got it."""
    reorder: bool = False
    """Whether a reply that is ready goes out before older ones that are not."""
    tls: TlsSpec | None = None
    identification: IdentificationSpec = IdentificationSpec()
    functions: FunctionsSpec = FunctionsSpec()
