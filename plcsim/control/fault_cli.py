"""`plcsim fault`: faults of running devices. Its options are made from the rule models themselves."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel

from plcsim.command import Seconds
from plcsim.control.option import control_option
from plcsim.control.request import fault_rule
from plcsim.control.socket import ask, find_running
from plcsim.errors import InputError
from plcsim.faults.rules import FaultRule

MODELS = get_args(FaultRule)
KINDS = {get_args(model.model_fields["kind"].annotation)[0]: model for model in MODELS}

_FEW = 5
_as_json = click.option("--json", "as_json", is_flag=True, help="The reply as one JSON object.")


class _Span(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A or A-B: from the first to the last."""

    name = "a or a-b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        first, _, last = str(value).partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            self.fail(f"{value!r} is not a number, or two such as 10-19", param, ctx)
        return [int(first), int(last or first)]


class _Value(click.ParamType):  # type: ignore[type-arg]
    """A value as JSON has it; anything else is text."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except ValueError:
            return value


_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": str},
    "seconds": {"type": float},
    "functions": {"type": int, "multiple": True, "flag": "--function"},
    "addresses": {"type": _Span(), "flag": "--address"},
    "quantity": {"type": _Span()},
}
"""Keys of rules whose option is not simply `--key VALUE`; those that end in _s are durations."""


def _rule_options() -> Iterator[click.Option]:
    """An option for every key that a kind of fault has, and what is easier to type."""
    yield click.Option(["--ms"], type=float, help="The same as --seconds, in milliseconds.")
    for key, kinds in _keys().items():
        how = dict(_OPTIONS.get(key, {"type": Seconds() if key.endswith("_s") else _Value()}))
        flag = how.pop("flag", "--" + key.removesuffix("_s").replace("_", "-"))
        yield click.Option([flag, key], help=_help_of(key, kinds), **how)


def _help_of(key: str, kinds: list[str]) -> str:
    texts = {kind: text for kind in kinds if (text := _said_of(KINDS[kind]).get(key))}
    if len(kinds) > _FEW:
        return f"Key {key}. {next(iter(texts.values()), '')}".strip()
    said = " ".join(text if len(kinds) == 1 else f"{kind}: {text}" for kind, text in texts.items())
    return f"Key {key} of {', '.join(kinds)}. {said}".strip()


def _said_of(model: type[BaseModel]) -> dict[str, str]:
    """What the text below each key of a model and its bases says."""
    said: dict[str, str] = {}
    for base in reversed(model.__mro__[: model.__mro__.index(BaseModel)]):
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for before, after in pairwise(found.body if isinstance(found, ast.ClassDef) else []):
            match before, after:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                    said[key] = " ".join(text.split())
    return said


def _kinds_help() -> str:
    lines = [f"  {kind}: {' '.join((inspect.getdoc(model) or '').split())}" for kind, model in KINDS.items()]
    return "\b\nKinds:\n" + "\n".join(_wrapped(line) for line in lines)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 78, initial_indent="", subsequent_indent="      ")


def _keys() -> dict[str, list[str]]:
    """Keys of all rules but `kind`, each with the kinds that have it."""
    keys: dict[str, list[str]] = {}
    for kind, model in KINDS.items():
        for key in model.model_fields:
            if key != "kind":
                keys.setdefault(key, []).append(kind)
    return keys


def _with_rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(list(_rule_options())):
        command.__dict__.setdefault("__click_params__", []).append(option)
    return command


@click.group(no_args_is_help=False)
@click.argument("device")
@click.pass_context
def fault(ctx: click.Context, device: str) -> None:
    """Add, list or remove faults of a running DEVICE.

    DEVICE is a device id, a pattern such as 'ald-0*', or all.

    Example: plcsim fault ald-1 add delay --ms 500 --for 60s
    """
    ctx.obj = device


@fault.command(epilog=_kinds_help())
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key, as in a device file.")
@_with_rule_options
@_as_json
@control_option
@click.pass_obj
def add(
    device: str,
    /,
    kind: str,
    settings: tuple[str, ...],
    ms: float | None,
    as_json: bool,
    control: Path | None,
    **keys: Any,
) -> int:
    """Let a fault of this KIND happen from now on.

    Example: plcsim fault all add exception --code 4 --function 3 --probability 0.1
    """
    rule = rule_of(kind, settings, ms, keys)
    reply = _ask(control, {"op": "fault", "device": device, "do": "add", "rule": rule})
    _tell(reply, as_json, "added")
    return 0


def rule_of(kind: str, settings: tuple[str, ...], ms: float | None, keys: dict[str, Any]) -> dict[str, Any]:
    """The keys of the rule that the options say. Raises InputError if they make none."""
    rule: dict[str, Any] = {"kind": kind}
    for key, value in keys.items():
        if value not in (None, ()):
            rule[key] = list(value) if isinstance(value, tuple) else value
    if ms is not None:
        rule["seconds"] = ms / 1000.0
    rule |= dict(map(_setting, settings))
    fault_rule(rule)
    return rule


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text!r} is not KEY=VALUE")
    return key, _Value().convert(value, None, None)


@fault.command(name="list")
@_as_json
@control_option
@click.pass_obj
def list_(device: str, as_json: bool, control: Path | None) -> int:
    """List the faults: how many requests fitted, and on how many they landed.

    Example: plcsim fault all list
    """
    reply = _ask(control, {"op": "fault", "device": device, "do": "list"})
    if as_json:
        click.echo(json.dumps(reply))
        return 0
    for each in reply["faults"]:
        state = "in force" if each["in_force"] else "not in force"
        click.echo(
            f"{each['device']}: {each['name']}: {state}, fitted {each['fitted']}, "
            f"fired {each['fired']}, landed {each['landed']}: "
            f"{json.dumps(each['rule'])}"
        )
    if not reply["faults"]:
        click.echo(f"no faults on {len(reply['devices'])} devices")
    return 0


@fault.command()
@click.argument("name")
@_as_json
@control_option
@click.pass_obj
def remove(device: str, name: str, as_json: bool, control: Path | None) -> int:
    """Remove the fault of this NAME, as `list` shows it.

    Example: plcsim fault ald-1 remove delay-1
    """
    reply = _ask(control, {"op": "fault", "device": device, "do": "remove", "name": name})
    _tell(reply, as_json, "removed")
    return 0


@fault.command()
@_as_json
@control_option
@click.pass_obj
def clear(device: str, as_json: bool, control: Path | None) -> int:
    """Remove all faults, those of the device file too.

    Example: plcsim fault all clear
    """
    _tell(_ask(control, {"op": "fault", "device": device, "do": "clear"}), as_json, "removed")
    return 0


def _ask(control: Path | None, request: dict[str, Any]) -> dict[str, Any]:
    return ask(find_running(control), request)


def _tell(reply: dict[str, Any], as_json: bool, done: str) -> None:
    if as_json:
        click.echo(json.dumps(reply))
        return
    faults = reply["faults"]
    for each in faults[:_FEW]:
        click.echo(f"{each['device']}: {each['name']} {done}")
    if len(faults) > _FEW:
        click.echo(f"… and on {len(faults) - _FEW} more devices")
    if not faults:
        click.echo(f"nothing {done} on {len(reply['devices'])} devices")
