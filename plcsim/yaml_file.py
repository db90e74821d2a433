"""Loads a YAML file into a pydantic model; an error names file, line, key, value and what is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError
from yaml.resolver import Resolver

from plcsim.errors import ConfigError
from plcsim.names import NO_NAME

Model = TypeVar("Model", bound=BaseModel)
Location = Sequence[str | int]

MAX_FILE_BYTES = 8 * 1024 * 1024
"""A device file of 10,000 parameters has about 2 MB; more is not meant for us."""


_TEXT, _WHOLE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"
_EXPONENT = re.compile(r"[-+]?[0-9]+\.?[0-9]*[eE][-+]?[0-9]+")
_NOT_DECIMAL = re.compile(r"[-+]?0[0-9_]|.*:")


class Complaint(ValueError):
    """Something is wrong at a place in a document: what, and where."""

    def __init__(self, location: Location, problem: str) -> None:
        super().__init__(problem)
        self.location = tuple(location)
        self.problem = problem


def load_yaml(path: Path | str, model: type[Model], check: Callable[[Model], None] | None = None) -> Model:
    """Load and validate a file.

    `check` looks at what no single field shows and raises `Complaint`.
    Raises ConfigError for anything that is wrong with the file.
    """
    source = str(path)
    node = _compose(Path(path), source)
    data = _construct(node, source) if node is not None else None
    return parse(data, model, check, source, lambda location: _line(node, location))


def has_key(path: Path | str, key: str) -> bool:
    """Whether a file's mapping has this key. Raises ConfigError if it cannot be read, or is not YAML."""
    return _child(_compose(Path(path), str(path)), key) is not None


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
        node = _composed(text)
        if node is not None:
            _refuse_surprises(node, source)
    except yaml.YAMLError as exc:
        raise _not_yaml(exc, source) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", source=source) from None
    return node


class _Loader(yaml.SafeLoader):
    """Says the line of what it does not take."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()  # type: ignore[no-untyped-call]
            problem = f"aliases (*{alias.anchor}) are not supported"
            raise ComposerError(None, None, problem, alias.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as exc:
            problem = f"{_short(node.value)}: {exc}"
            raise ConstructorError(None, None, problem, node.start_mark) from None


if TYPE_CHECKING or not yaml.__with_libyaml__:
    _FastLoader = _Loader
else:
    from yaml.cyaml import CParser

    class _FastLoader(Composer, CParser, Resolver):
        """The parser in C, ten times as fast, below the composer in Python: that in C crashes on what is
        nested too deeply."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            Resolver.__init__(self)

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise ComposerError  # the other loader says why
            return super().compose_node(parent, index)


def _composed(text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_FastLoader)
    except yaml.YAMLError:  # the parser in Python takes more, and its messages are better
        return yaml.compose(text, Loader=_Loader)


def _construct(node: yaml.Node, source: str) -> Any:
    try:
        return _Loader("").construct_document(node)
    except yaml.YAMLError as exc:
        raise _not_yaml(exc, source) from None


def _not_yaml(exc: yaml.YAMLError, source: str) -> ConfigError:
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark:
        line = exc.problem_mark.line + 1
        return ConfigError(f"is not YAML that we read: {exc.problem}", source=source, line=line)
    return ConfigError(f"is not YAML: {' '.join(str(exc).split())}", source=source)


def _refuse_surprises(node: yaml.Node, source: str) -> None:
    """YAML takes the last of two equal keys silently, `on` as true, 010 as 8 and 1:30 as 90."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_surprises(item, source)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _WHOLE and not _NOT_DECIMAL.match(key.value):
                key.tag = _TEXT  # a number as a key: the model reads it, as it stands
            if key.tag != _TEXT:
                shown = key.value if isinstance(key, yaml.ScalarNode) else ""
                problem = "the key is not text to YAML; put it in quotes"
                raise ConfigError(problem, source=source, line=line, key=shown)
            if key.value in keys:
                raise ConfigError("the key appears twice", source=source, line=line, key=key.value)
            keys.add(key.value)
            _refuse_surprises(value, source)
    elif node.tag == _WHOLE and _NOT_DECIMAL.match(node.value):
        number = _Loader("").construct_object(node)
        raise ConfigError(
            f"{node.value} is {number} to YAML; write {number}, or put it in quotes",
            source=source,
            line=node.start_mark.line + 1,
        )


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
        elif isinstance(data, dict) and (part in data or (last and data.get("kind") != part)):
            text += f".{part}" if text else str(part)
            data = data.get(part)
    return text


_MUST = {
    "int_type": "be an integer",
    "int_from_float": "be an integer",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "bool_type": "be true or false",
    "string_type": "be text; put it in quotes",
    "list_type": "be a list, [a, b]",
    "dict_type": "be a mapping, key: value",
    "model_type": "be a mapping, key: value",
    "model_attributes_type": "be a mapping, key: value",
    "greater_than": "be more than {gt}",
    "greater_than_equal": "be {ge} or more",
    "less_than_equal": "be {le} or less",
    "too_short": "have {min_length} or more entries",
    "too_long": "have {max_length} entries at most",
    "string_too_short": "not be empty",
}
"""What pydantic's kinds of error ask for, in an engineer's words."""


def _problem(error: Any) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    shown = _short(value)
    match kind:
        case "extra_forbidden":
            return "is not a known key here"
        case "missing":
            return "is missing"
        case "enum" | "literal_error" | "union_tag_invalid":
            expected = context.get("expected") or context.get("expected_tags")
            shown = _short(value.get("kind") if "tag" in context else value)
            return f"{shown} is not one of {expected}".replace(" or ", ", ")
        case "union_tag_not_found":
            return "'kind' is missing: it says which one this is"
        case "value_error":
            return str(context["error"]) if isinstance(value, dict) else f"{shown}: {context['error']}"
        case "string_pattern_mismatch" if context["pattern"].endswith("*$"):
            return f"{shown}: must be printable ASCII"
        case "string_pattern_mismatch":
            return f"{shown} {NO_NAME}"
        case "float_type" if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return f"{shown}: must be a number; write an exponent as 1.0e+3"
    if kind in _MUST:
        bounds = {k: f"{v:.15g}" for k, v in context.items() if isinstance(v, int | float)}
        return f"{shown}: must {_MUST[kind].format(**bounds)}"
    return f"{shown}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _short(value: Any) -> str:
    """A value as the file shows it, or what sort of thing it is."""
    if isinstance(value, str | int | float):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:56]} ..."
    names = {type(None): "nothing", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__)
