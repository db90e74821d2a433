"""What can be asked of a running emulator or fleet over its control socket."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from plcsim.errors import InputError
from plcsim.faults.rules import FaultField, FaultRule
from plcsim.yaml_file import parse

ALL = "all"
_SHOWN = 5


class ControlRequest(BaseModel):
    """One request; `fault` says what to `do` with the faults of the devices that `device` names."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    op: Literal["status", "devices", "fault"]
    device: str = ALL
    """A device id, a pattern such as ald-0*, or `all`."""
    do: Literal["add", "list", "remove", "clear"] = "list"
    rule: dict[str, Any] | None = None
    """Of `add`: its keys as in a device file."""
    name: str | None = None
    """Of `remove`."""


class _OneFault(RootModel[FaultField]):
    model_config = ConfigDict(defer_build=True)  # takes 30 ms, and few need it


def parse_request(data: dict[str, Any]) -> ControlRequest:
    """The request in a message. Raises ConfigError."""
    return parse(data, ControlRequest, source="request")


def fault_rule(keys: dict[str, Any]) -> FaultRule:
    """The fault rule that these keys make. Raises ConfigError: one line with key and value."""
    return parse(keys, _OneFault, source="fault").root


def matching(pattern: str, device_ids: Sequence[str]) -> list[str]:
    """The ids that a pattern names. Raises InputError if there are none."""
    found = [each for each in device_ids if pattern in (ALL, each) or fnmatchcase(each, pattern)]
    if not found:
        more = f" and {len(device_ids) - _SHOWN} more" if len(device_ids) > _SHOWN else ""
        there = ", ".join(device_ids[:_SHOWN])
        raise InputError(f"{pattern!r} is no device here; there are {there}{more} (or all, or a pattern)")
    return found


def joined(replies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several processes answered to a request about faults, as one answer, devices by name."""
    devices = sorted(device for reply in replies for device in reply["devices"])
    faults = [fault for reply in replies for fault in reply["faults"]]
    return {"devices": devices, "faults": sorted(faults, key=lambda fault: str(fault["device"]))}


def checked(request: ControlRequest, reply: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request about faults. Raises InputError if there was nothing to remove."""
    if request.do == "remove" and not reply["faults"]:
        raise InputError(f"{request.name!r} is the name of no fault there; `list` shows them")
    return reply
