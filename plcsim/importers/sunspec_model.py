"""A SunSpec information model as its JSON file says it (github.com/sunspec/models), validated."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from plcsim.errors import ConfigError
from plcsim.importers.source_file import read_text
from plcsim.yaml_file import Complaint, parse

END_MODEL_ID = 0xFFFF

SIZES = {
    **dict.fromkeys(
        ("int16", "uint16", "raw16", "acc16", "enum16", "bitfield16", "count", "sunssf", "pad"), 1
    ),
    **dict.fromkeys(("int32", "uint32", "acc32", "enum32", "bitfield32", "float32", "ipaddr"), 2),
    **dict.fromkeys(("int64", "uint64", "acc64", "bitfield64", "float64", "eui48"), 4),
    "ipv6addr": 8,
}
"""Registers of a point by its type; a string says its own."""


class _Lenient(BaseModel):
    """Descriptions, standards and whatever else a model says are left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class Symbol(_Lenient):
    """A name for one value of an enum, or for one bit of a bitfield."""

    name: str
    value: int


class Point(_Lenient):
    """One value of a model."""

    name: str = Field(min_length=1)
    type: Literal[
        "int16", "int32", "int64", "raw16", "uint16", "uint32", "uint64", "acc16", "acc32", "acc64",
        "bitfield16", "bitfield32", "bitfield64", "enum16", "enum32", "float32", "float64", "string",
        "pad", "ipaddr", "ipv6addr", "eui48", "sunssf", "count",
    ]  # fmt: skip
    size: int = Field(ge=1, le=65535)
    """In registers."""
    count: int = Field(default=1, ge=1, le=65535)
    value: int | str | None = None
    sf: int | str | None = None
    """The exponent of ten of its scale, or the name of the point that holds it."""
    units: str = ""
    label: str = ""
    access: Literal["R", "RW"] = "R"
    mandatory: Literal["M", "O"] = "O"
    symbols: list[Symbol] = Field(default_factory=list, max_length=1000)


class ModelGroup(_Lenient):
    """Points and groups in the order in which they lie; `count` says how often they repeat."""

    name: str = Field(min_length=1)
    type: Literal["group", "sync"] = "group"
    count: int | str = 1
    """A number, the name of the point that holds it, or 0: as often as the model's length says."""
    label: str = ""
    points: list[Point] = Field(default_factory=list)
    groups: list[ModelGroup] = Field(default_factory=list)

    def every(self) -> Iterator[ModelGroup]:
        """This group and all within, once each."""
        yield self
        for group in self.groups:
            yield from group.every()


class SunSpecModel(_Lenient):
    """A whole model file."""

    id: int = Field(ge=1, le=END_MODEL_ID - 1)
    group: ModelGroup


def load_model(path: Path) -> SunSpecModel:
    """Load a model file. Raises ConfigError: one line that names file, key and value."""
    source = str(path)
    try:
        data = json.loads(read_text(path))
    except RecursionError:
        raise ConfigError("is nested too deeply", source=source) from None
    except json.JSONDecodeError as exc:
        raise ConfigError(f"is not JSON: {exc.msg}", source=source, line=exc.lineno) from None
    except ValueError as exc:
        raise ConfigError(f"is not JSON that we read: {exc}", source=source) from None
    return parse(data, SunSpecModel, _check, source)


def _check(model: SunSpecModel) -> None:
    """Raise Complaint for what no single key shows."""
    place = ("group", "points")
    first = [(point.name, point.type, point.count) for point in model.group.points[:2]]
    if first != [("ID", "uint16", 1), ("L", "uint16", 1)]:
        raise Complaint(place, "must begin with ID and L, both uint16: every model does")
    if model.group.count != 1:
        raise Complaint(("group", "count"), f"{model.group.count!r}: the model itself lies there once")
    _check_group(model.group, ("group",), ChainMap())


def _check_group(group: ModelGroup, place: tuple[str | int, ...], outer: ChainMap[str, str]) -> None:
    """`outer` are the points of the groups around: name -> type."""
    names = outer.new_child({point.name: point.type for point in group.points})
    _check_unique(group, place)
    for p, point in enumerate(group.points):
        at = (*place, "points", p)
        if point.type != "string" and point.size != SIZES[point.type]:
            raise Complaint((*at, "size"), f"{point.size}: must be {SIZES[point.type]} for {point.type}")
        if isinstance(point.sf, str) and names.get(point.sf) != "sunssf":
            raise Complaint((*at, "sf"), f"{point.sf!r} is not a sunssf point of this group or one around it")
        if isinstance(point.sf, int) and not -10 <= point.sf <= 10:
            raise Complaint((*at, "sf"), f"{point.sf}: must be -10 to 10")
    for g, inner in enumerate(group.groups):
        at = (*place, "groups", g)
        if isinstance(inner.count, str) and inner.count not in names:
            raise Complaint((*at, "count"), f"{inner.count!r} is not a point of a group around it")
        if isinstance(inner.count, int) and not 0 <= inner.count <= 65535:
            raise Complaint((*at, "count"), f"{inner.count}: must be 0 to 65535")
        if not any(within.points for within in inner.every()):
            raise Complaint((*at, "points"), "is missing: the group holds nothing")
        _check_group(inner, at, names)


def _check_unique(group: ModelGroup, place: tuple[str | int, ...]) -> None:
    for key, names in (
        ("points", [point.name for point in group.points]),
        ("groups", [inner.name for inner in group.groups]),
    ):
        seen: set[str] = set()
        for i, name in enumerate(names):
            if name in seen:
                raise Complaint((*place, key, i, "name"), f"{name!r} appears twice")
            seen.add(name)
