"""docs/logger-reading.md against the code: every key that it names, its default, and every quality."""

from __future__ import annotations

import re
from pathlib import Path

from logger.reading.back_off import LONGEST_S
from logger.reading.clock_watch import SMALLEST_STEP_NS
from logger.reading.poller import LONGEST_OUTAGE_S
from logger.reading.reader import ASK_AGAIN_S
from logger.scan import Quality
from plcsim.config import GroupSpec, LoggingSpec, ModbusSpec
from plcsim.device_file import load_device

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "logger-reading.md").read_text(encoding="utf-8")
IN_WORDS = {"as many as fit": None, "none": "", "true": True, "false": False}


def keys() -> dict[str, str]:
    """Each key that the page names, and its default."""
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \| ", PAGE, re.MULTILINE)
    named: dict[str, str] = {}
    for names, defaults in rows:
        found = re.findall(r"`([\w.\[\]]+)`", names)
        named |= dict(zip(found, defaults.split(", ") if len(found) > 1 else [defaults], strict=True))
    return named


def written(default: object) -> object:
    """A default as the page writes it, or as IN_WORDS has it."""
    if default is None or isinstance(default, bool):
        return default
    return f"{default:g}" if isinstance(default, int | float) else str(default or "")


def test_every_key_is_there_with_its_default() -> None:
    named = keys()
    specs = {"modbus": ModbusSpec, "logging": LoggingSpec, "groups[]": GroupSpec}
    for key, default in named.items():
        section, _, name = key.rpartition(".")
        if section:
            actual = specs[section].model_fields[name].get_default(call_default_factory=True)
            assert written(actual) == IN_WORDS.get(default, default), key
    elsewhere = {"host", "port", "unit_id"}  # where the device is, not how it is read
    expected = {f"modbus.{name}" for name in set(ModbusSpec.model_fields) - elsewhere}
    expected |= {f"logging.{name}" for name in LoggingSpec.model_fields}
    assert expected | {"groups[].poll", "groups[].consistent", "readable_gaps"} == set(named)


def test_the_qualities_and_times_are_those_of_the_code() -> None:
    qualities = {int(q) for q in re.findall(r"^\| .+? \| (\d+) \| ", PAGE, re.MULTILINE) if int(q) > 2}
    unused = {Quality.BAD_WAITING_FOR_INITIAL_DATA}
    assert qualities - {2000} == set(Quality) - unused
    assert f"{LONGEST_S:g} s at most" in PAGE
    assert f"after {ASK_AGAIN_S:g} s" in PAGE
    assert f"or after {LONGEST_OUTAGE_S:g} s" in PAGE
    assert f"more than {SMALLEST_STEP_NS / 1e9:g} s" in PAGE


def test_the_example_that_it_names_is_there() -> None:
    (named,) = set(re.findall(r"`(configs/\w+\.yaml)`", PAGE))
    assert load_device(ROOT / named).device.device_id == "boiler-7"
