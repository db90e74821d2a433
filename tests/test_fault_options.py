"""YAML, command line and Python say the same of faults: the options are made from the rules."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest

from plcsim.control import fault_cli
from plcsim.control.request import fault_rule
from plcsim.errors import ConfigError, InputError

VALUES: dict[str, Any] = {
    "name": "mine",
    "after_s": 1.5,
    "for_s": 60.0,
    "unit_id": 3,
    "functions": [3, 4],
    "addresses": [10, 19],
    "quantity": [2, 2],
    "every": 2,
    "probability": 0.5,
    "count": 7,
    "seconds": 0.5,
    "jitter_s": 0.25,
    "interval_s": 0.01,
    "code": 5,
    "by": 2,
    "missing_bytes": 4,
    "extra_bytes": 4,
    "protocol_id": 9,
    "bytes": 3,
    "connections": 2,
    "bits": 1,
    "at": 5,
}
"""A good value for every key of every rule; a new key has to be added here."""

REFUSED = {("clock_jump", "for_s")}
"""Keys that a kind has from its base and does not take."""


def option_of(key: str) -> click.Option:
    (option,) = [p for p in fault_cli.add.params if isinstance(p, click.Option) and p.name == key]
    return option


def arguments(rule: dict[str, Any]) -> list[str]:
    """The command line that says the same as these keys."""
    words = [rule["kind"]]
    for key, value in rule.items():
        if key == "kind":
            continue
        (flag,) = option_of(key).opts
        if key == "functions":
            words += [word for each in value for word in (flag, str(each))]
        elif isinstance(value, list):
            words += [flag, f"{value[0]}-{value[1]}"]
        else:
            words += [flag, str(value)]
    return words


def said(*words: str) -> dict[str, Any]:
    """The keys of the rule that `plcsim fault DEVICE add` makes of these words."""
    keys = dict(fault_cli.add.make_context("add", list(words)).params)
    for key in ("as_json", "control"):
        del keys[key]
    return fault_cli.rule_of(keys.pop("kind"), keys.pop("settings"), keys.pop("ms"), keys)


@pytest.mark.parametrize("kind", fault_cli.KINDS)
def test_every_key_of_a_rule_has_an_option_that_means_it(kind: str) -> None:
    keys = [key for key in fault_cli.KINDS[kind].model_fields if (kind, key) not in REFUSED and key != "kind"]
    rule = {"kind": kind, **{key: VALUES[key] for key in keys}}
    assert fault_rule(said(*arguments(rule))) == fault_rule(rule)


def test_every_option_has_help_that_names_its_key() -> None:
    for option in fault_cli.add.params:
        if isinstance(option, click.Option) and option.name in VALUES:
            assert option.help
            assert re.match(rf"Key {option.name}( of [a-z_, ]+)?\.", option.help)


def test_the_help_says_what_each_kind_does_and_what_its_keys_mean() -> None:
    text = " ".join(fault_cli.add.get_help(click.Context(fault_cli.add, info_name="add")).split())
    assert "delay: The reply goes out `seconds` later, and up to `jitter_s` more." in text
    assert "Key every. Hits each n-th of the requests that fit." in text
    for kind in fault_cli.KINDS:
        assert f" {kind}: " in text


def test_milliseconds_and_set_say_the_same_as_the_key() -> None:
    rule = {"kind": "delay", "seconds": 0.5}
    assert said("delay", "--ms", "500") == rule
    assert said("delay", "--set", "seconds=0.5") == rule
    assert said("delay", "--seconds", "0.5") == rule


def test_durations_have_units() -> None:
    rule = {"kind": "busy", "for_s": 600.0, "after_s": 0.25}
    assert said("busy", "--for", "10m", "--after", "250ms") == rule


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["delay"], "fault: seconds: is missing"),
        (["busy", "--code", "2"], "fault: code: is not a known key here"),
        (["exception", "--code", "many"], "fault: code: 'many': must be an integer"),
        (["busy", "--probability", "2"], "fault: probability: 2: must be 1 or less"),
        (["busy", "--address", "9-3"], "fault: addresses: "),
        (["busy", "--set", "count"], "--set 'count' is not KEY=VALUE"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], complaint: str) -> None:
    with pytest.raises((ConfigError, InputError)) as caught:
        said(*words)
    assert str(caught.value).startswith(complaint)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("words", [["explode"], ["busy", "--address", "x"], ["busy", "--for", "soon"]])
def test_what_is_no_option_value_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        said(*words)
