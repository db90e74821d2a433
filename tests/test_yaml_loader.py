"""The fast YAML parser gives what the one in Python gives, with the same lines, and never crashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fix_emulator import ALD_FILE
from hypothesis import given
from hypothesis import strategies as st

from plcsim.config import DeviceConfig
from plcsim.errors import ConfigError
from plcsim.yaml_file import _composed, _FastLoader, _Loader, load_yaml

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc: #-'\"", max_size=5), inner),
    max_leaves=20,
)


def flat(node: yaml.Node | None) -> Iterator[tuple[Any, ...]]:
    """Every node with its tag; scalars with their value, keys and items with their line."""
    if isinstance(node, yaml.ScalarNode):
        yield node.tag, node.value
    elif isinstance(node, yaml.MappingNode):
        yield (node.tag,)
        for key, value in node.value:
            yield ("line", key.start_mark.line)
            yield from flat(key)
            yield from flat(value)
    elif isinstance(node, yaml.SequenceNode):
        yield (node.tag,)
        for item in node.value:
            yield from flat(item)


def test_this_python_has_the_fast_parser() -> None:
    assert _FastLoader is not _Loader


@pytest.mark.parametrize("path", sorted(ALD_FILE.parent.rglob("*.yaml")), ids=lambda path: path.name)
def test_both_parsers_agree_on_the_files_that_we_ship(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert list(flat(yaml.compose(text, Loader=_FastLoader))) == list(
        flat(yaml.compose(text, Loader=_Loader))
    )


@given(documents, st.booleans())
def test_both_parsers_agree_on_any_document(document: Any, in_flow: bool) -> None:
    text = yaml.safe_dump(document, default_flow_style=in_flow, allow_unicode=True)
    assert list(flat(_composed(text))) == list(flat(yaml.compose(text, Loader=_Loader)))


def test_what_only_the_parser_in_python_takes_is_taken() -> None:
    text = "{a:, b: 1}"
    with pytest.raises(yaml.YAMLError):
        yaml.compose(text, Loader=_FastLoader)
    assert list(flat(_composed(text))) == list(flat(yaml.compose(text, Loader=_Loader)))


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "? " * 100_000])
def test_nesting_without_end_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is nested too deeply"):
        load_yaml(path, DeviceConfig)


def test_an_alias_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    path.write_text("a: &one 1\nb: *one\n")
    with pytest.raises(ConfigError, match=r"alias\.yaml:2: .*aliases \(\*one\) are not supported"):
        load_yaml(path, DeviceConfig)
