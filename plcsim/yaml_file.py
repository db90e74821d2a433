"""Loads a YAML file into a pydantic model; an error names file, line, key, value and what is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from plcsim.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]

MAX_FILE_BYTES = 8 * 1024 * 1024
"""A device file of 10,000 parameters has about 2 MB; more is not meant for us."""


class Complaint(ValueError):
    """Something is wrong at a place in a document: what, and where."""

    def __init__(self, location: Location, problem: str) -> None:
        super().__init__(problem)
        self.location = tuple(location)
        self.problem = problem


def load_yaml(
    path: Path | str, model: type[Model], check: Callable[[Model], None] | None = None
) -> Model:
    """Load and validate a file.

    `check` looks at what no single field shows and raises `Complaint`.
    Raises ConfigError for anything that is wrong with the file.
    """
    source = str(path)
    node = _compose(Path(path), source)
    data = yaml.SafeLoader("").construct_document(node) if node is not None else None
    return parse(data, model, check, source, lambda location: _line(node, location))


def parse(
    data: Any,
    model: type[Model],
    check: Callable[[Model], None] | None = None,
    source: str = "configuration",
    line_of: Callable[[Location], int | None] = lambda _: None,
) -> Model:
    """Validate data that is already loaded; see `load_yaml`."""
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise ConfigError(f"a mapping of keys is expected, found {found}", source=source, line=1)
    try:
        parsed = model.model_validate(data)
    except ValidationError as exc:
        error = _first(exc)
        location = error["loc"]
        raise ConfigError(
            _problem(error), source=source, line=line_of(location), key=_key(data, location)
        ) from None
    try:
        if check:
            check(parsed)
    except Complaint as exc:
        raise ConfigError(
            exc.problem, source=source, line=line_of(exc.location), key=_key(data, exc.location)
        ) from None
    return parsed


def _compose(path: Path, source: str) -> yaml.Node | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"the file is larger than {MAX_FILE_BYTES:,} bytes", source=source)
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", source=source) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"is not UTF-8 text (byte {exc.start})", source=source) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else None
        raise ConfigError(f"is not YAML: {exc.problem}", source=source, line=line) from None
    except yaml.YAMLError as exc:
        raise ConfigError(f"is not YAML: {' '.join(str(exc).split())}", source=source) from None
    if node is not None:
        _refuse_duplicates_and_aliases(node, source, seen=set())
    return node


def _refuse_duplicates_and_aliases(node: yaml.Node, source: str, seen: set[int]) -> None:
    """YAML takes the last of two equal keys silently; aliases can blow a small file up."""
    line = node.start_mark.line + 1
    if id(node) in seen:
        raise ConfigError("aliases (*name) are not supported", source=source, line=line)
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates_and_aliases(item, source, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError("a key must be plain text", source=source, line=line)
            if key.value in keys:
                raise ConfigError(
                    "the key appears twice", source=source, line=key.start_mark.line + 1,
                    key=key.value,
                )
            keys.add(key.value)
            _refuse_duplicates_and_aliases(value, source, seen)


def _line(node: yaml.Node | None, location: Location) -> int | None:
    """Line of the deepest part of a location that the document has."""
    line = None if node is None else node.start_mark.line + 1
    for part in location:
        step = _child(node, part)
        if step is not None:
            node, line = step
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    return None


def _first(exc: ValidationError) -> Any:
    """The error to show: an unknown key explains a missing one, so it goes first."""
    errors = exc.errors(include_url=False)
    return min(errors, key=lambda e: e["type"] != "extra_forbidden")


def _key(data: Any, location: Location) -> str:
    """`groups[0].parameters[3].address`; parts that stand in the model only are left out."""
    text = ""
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(part, int):
            text += f"[{part}]"
            data = data[part] if isinstance(data, list) and part < len(data) else None
        elif isinstance(data, dict) and (part in data or last):
            text += f".{part}" if text else str(part)
            data = data.get(part)
    return text


def _problem(error: Any) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    shown = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    match kind:
        case "extra_forbidden":
            return "is not a known key here"
        case "missing":
            return "is missing"
        case "enum" | "literal_error" | "union_tag_invalid":
            expected = context.get("expected") or context.get("expected_tags")
            shown = repr(context["tag"]) if "tag" in context else shown
            return f"{shown} is not one of {expected}".replace(" or ", ", ")
        case "union_tag_not_found":
            return "'kind' is missing: it says which signal this is"
        case "string_pattern_mismatch":
            return f"{shown} is not a name (letters, digits and _ . : / - , 63 at most)"
    reason = error["msg"][0].lower() + error["msg"][1:]
    return f"{shown}: {reason}"
