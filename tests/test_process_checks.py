"""What a process may name: parameters that a logger can see, push buttons, steps of its recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from plcsim.device_file import load_device
from plcsim.errors import ConfigError

PRESS = """\
device: {device_id: press-1}
process:
  recipe: press
  running: plc.running
  number: plc.number
  mode: commanded
  commands: {start: button.start, acknowledge: button.reset}
  failures:
    - {step: close, every: 3, after_s: 1}
  phases:
    - steps: [{name: close, seconds: 2}, {name: open, seconds: 1}]
groups:
  - name: values
    table: input_register
    parameters:
      - {id: 1, component: plc, name: running, address: 0, type: uint16, signal: {kind: process_running}}
      - {id: 2, component: plc, name: number, address: 1, type: uint32, signal: {kind: process_number}}
      - {id: 3, component: plc, name: maker, address: 3, type: string, length: 4}
  - name: buttons
    table: holding_register
    parameters:
      - {id: 4, component: button, name: start, address: 0, type: bool, bit: 0, writable: true,
         signal: {kind: constant, value: 0}}
      - {id: 5, component: button, name: reset, address: 0, type: bool, bit: 1, writable: true,
         signal: {kind: constant, value: 0}}
      - {id: 6, component: button, name: lamp, address: 1, type: bool, bit: 0}
      - {id: 7, component: button, name: speed, address: 2, type: uint16, writable: true}
"""


def edited(folder: Path, old: str, new: str) -> Path:
    assert PRESS.count(old) == 1
    path = folder / "press.yaml"
    path.write_text(PRESS.replace(old, new), encoding="utf-8")
    return path


def test_buttons_may_be_bits_of_one_register(tmp_path: Path) -> None:
    config = load_device(edited(tmp_path, "press-1", "press-1"))
    assert config.process is not None
    assert len(config.process.commands.named()) == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("running: plc.running", "running: plc.runs",
         "4: process.running: 'plc.runs' is not a parameter (component.name)"),
        ("number: plc.number", "number: plc.maker",
         "5: process.number: 'plc.maker' must be a number that can be read"),
        ("start: button.start", "start: button.go",
         "7: process.commands.start: 'button.go' is not a writable bool (component.name)"),
        ("start: button.start", "start: button.lamp",
         "7: process.commands.start: 'button.lamp' is not a writable bool (component.name)"),
        ("start: button.start", "start: button.speed",
         "7: process.commands.start: 'button.speed' is not a writable bool (component.name)"),
        ("step: close", "step: cool",
         "9: process.failures[0].step: 'cool' is not a step of the recipe; there are idle, close, open"),
        ("{kind: process_running}", "{kind: steps, levels: {shut: 1}}",
         "16: groups[0].parameters[0].signal: 'shut' is not a step of the recipe; there are idle, close, "
         "open"),
        ("name: close, seconds: 2", "name: close, seconds: 2000000",
         "2: process: one execution takes 20,000,112 PLC scans; at most 10,000,000 can be laid out"),
    ],
)  # fmt: skip
def test_what_a_process_names_must_be_there(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    assert str(caught.value) == f"{path}:{says}"
