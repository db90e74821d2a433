"""Servers with settings of their own, in an event loop in a thread of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fix_faults import Site, serving

from plcsim.config import DeviceConfig
from plcsim.device import Device
from plcsim.device_file import load_device
from plcsim.faults.rules import FAULT_RULE
from plcsim.server_config import ServerSpec
from plcsim.unit import Unit


def configured(path: Path, server: Mapping[str, Any], *faults: Mapping[str, Any]) -> DeviceConfig:
    """The device of a file with other settings of its server, and with faults."""
    rules = [FAULT_RULE.validate_python(fault) for fault in faults]
    settings = ServerSpec.model_validate(server)
    return load_device(path).model_copy(update={"server": settings, "faults": rules})


@pytest.fixture
def serve_flat(flat_file: Path) -> Iterator[Callable[..., Site]]:
    """Starts servers of the flat device: faults in order, settings by name."""
    with ExitStack() as stack:

        def start(*faults: Mapping[str, Any], uvloop: bool = True, **settings: Any) -> Site:
            config = configured(flat_file, settings, *faults)
            return stack.enter_context(serving(lambda: {1: Unit(Device(config))}, uvloop))

        yield start
