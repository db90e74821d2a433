"""docs/signals.md against the code: a section for each kind of signal, with each of its keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from plcsim.process import CommandSpec, FailureSpec, ProcessSpec
from plcsim.signals import BaseSignal, Signal

PAGE = (Path(__file__).parent.parent / "docs" / "signals.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"^## (\w+)\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE))
MODELS: dict[str, type[BaseSignal]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(Signal)
}


def keys(text: str) -> set[str]:
    """Names in the first column of a table."""
    return {
        key for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    }


def test_every_kind_has_its_section() -> None:
    assert set(SECTIONS) == set(MODELS)


@pytest.mark.parametrize("kind", MODELS)
def test_a_section_has_every_key_of_its_kind(kind: str) -> None:
    assert keys(SECTIONS[kind]) == set(MODELS[kind].model_fields) - {"kind", "update_every"}


def test_the_key_of_all_kinds_is_explained() -> None:
    assert "`update_every: n`" in PAGE
    assert all("update_every" in model.model_fields for model in MODELS.values())


def test_the_process_shown_is_one() -> None:
    (text,) = re.findall(r"^# The process\n+```yaml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    shown: dict[str, Any] = yaml.safe_load(text)["process"]
    spec = ProcessSpec.model_validate(shown)
    assert set(shown) == set(ProcessSpec.model_fields)
    assert set(shown["commands"]) == set(CommandSpec.model_fields)
    assert {*shown["failures"][0], "every"} == set(FailureSpec.model_fields)
    assert spec.mode == "commanded"
