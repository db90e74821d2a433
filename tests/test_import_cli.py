"""`plcsim import` as a user meets it: files, report, exit codes, and the page that describes it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sunspec2
from fix_emulator import DEADLINE_S, Emulator

from plcsim.device_file import load_device

ROOT = Path(__file__).parent.parent
SAMPLES = Path(__file__).parent / "import"
PUBLIC = Path(sunspec2.__file__).parent / "models" / "json"
METER, BATTERY = SAMPLES / "meter.csv", SAMPLES / "battery.json"
PAGE = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
MODULES = {"plcsim": "plcsim", "plclogger": "logger"}


def run(program: str, *arguments: str | Path, folder: Path = ROOT) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    command = [sys.executable, "-m", MODULES[program], *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=DEADLINE_S, check=False, cwd=folder
    )
    return done.returncode, done.stdout, done.stderr


def test_without_output_the_device_file_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    code, out, err = run("plcsim", "import", METER)
    assert code == 0
    assert err.splitlines()[-1] == "11 of 13 refs imported; 2 left out; 2 remarks"
    (tmp_path / "meter.yaml").write_text(out, encoding="utf-8")
    assert load_device(tmp_path / "meter.yaml").device.device_id == "meter01"
    for line in err.splitlines()[:-1]:
        assert f"#   {line}\n" in out


def test_strict_is_exit_code_1_if_anything_is_missing_or_different(tmp_path: Path) -> None:
    plain = tmp_path / "plain.csv"
    plain.write_text("device,d,1\npoll,coil,0,8,BE_BE\nref,a,0,bool,r\n")
    assert run("plcsim", "import", plain, "--strict")[::2] == (0, "1 of 1 refs imported\n")
    assert run("plcsim", "import", METER, "--strict")[0] == 1


def test_the_options_arrive(tmp_path: Path) -> None:
    path = tmp_path / "battery.yaml"
    options = ["--base-address", "50000", "--repeats", "2", "--scale-factor", "V_SF=-2", "--device-id", "b1"]
    code, out, err = run("plcsim", "import", BATTERY, *options, "--output", path)
    assert (code, out) == (0, "")
    assert err.splitlines()[-1].endswith(f"; wrote {path}")
    config = load_device(path)
    assert config.device.device_id == "b1"
    found = {p.full_name: p for p in config.register_map.parameters}
    assert found["sunspec.marker"].address == 50000
    assert found["battery.string_2.V"].scale == 0.01


def test_the_format_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "battery.txt"
    shutil.copy(BATTERY, path)
    code, _, err = run("plcsim", "import", path)
    assert (code, err) == (2, f"plcsim: {path}: neither .csv nor .json; say what it is with --format\n")
    assert run("plcsim", "import", path, "--format", "sunspec")[0] == 0


def test_models_can_be_taken_by_id_from_a_folder() -> None:
    code, out, _ = run("plcsim", "import", PUBLIC, "--model-id", "1", "--model-id", "103")
    assert code == 0
    assert "# Made by `plcsim import` from model_1.json, model_103.json: SunSpec model definitions.\n" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([METER, "--model-id", "1"], "meter.csv: --model-id takes models from one folder"),
        ([SAMPLES, "--model-id", "1"], "model_1.json: cannot be read: No such file or directory"),
        ([METER, METER], "meter.csv: one modpoll file makes one device file; import it by itself"),
        ([METER, "--device", "x"], "meter.csv: has no device 'x'; there are 'meter01'"),
        ([METER, "--device-id", "a\nb"], "--device-id 'a\\nb': is not a name"),
        ([BATTERY, "--scale-factor", "V_SF=11"], "'V_SF=11' is not NAME=N with N from -10 to 10"),
        ([BATTERY, "--scale-factor", "V_SF=-"], "'V_SF=-' is not NAME=N with N from -10 to 10"),
        ([BATTERY, "--scale-factor", "=1"], "'=1' is not NAME=N with N from -10 to 10"),
        ([BATTERY, "--scale-factor", "X=1"], "--scale-factor X: no model has a scale factor of this name"),
        ([BATTERY, "--base-address", "65520"], "model 64900 would take registers 65522 to 65561"),
        ([BATTERY, BATTERY, "--repeats", "1001"], "1001 is not in the range 1<=x<=1000"),
        ([BATTERY, "--device", "x"], f"--device: {BATTERY} is taken as sunspec; this option is for"),
        ([METER, "--base-address", "40000"], f"--base-address: {METER} is taken as modpoll; this"),
        ([METER, "--repeats", "2"], f"--repeats: {METER} is taken as modpoll; this option is for sunspec"),
        ([METER, "--scale-factor", "A_SF=-2"], f"--scale-factor: {METER} is taken as modpoll; this"),
        ([PUBLIC, "--model-id", "1", "--format", "modpoll"], "model_1.json is taken as modpoll; this option"),
        (["missing.csv"], "missing.csv: cannot be read: No such file or directory"),
        ([SAMPLES, "--format", "modpoll"], "cannot be read: Is a directory"),
        ([], "Missing argument 'FILE...'"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str | Path], says: str) -> None:
    code, out, err = run("plcsim", "import", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    code, _, err = run("plcsim", "import", METER, "--output", path)
    assert (code, err) == (2, f"plcsim: {path}: is there already; choose another name or remove it\n")
    assert path.read_text() == "mine"
    code, _, err = run("plcsim", "import", METER, "--output", tmp_path / "no" / "x.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be written: No such file or directory" in err


def commands() -> list[str]:
    """The command lines of the page, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_commands_of_the_page_work_in_order(
    tmp_path: Path, start_emulator: Callable[..., Emulator]
) -> None:
    for folder in ("tests/import", "configs/devices"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    assert len(commands()) == 6
    for line in commands():
        program, *arguments = shlex.split(line)
        if arguments[0] == "run":
            start_emulator(tmp_path / arguments[1])
        else:
            assert run(program, *arguments, folder=tmp_path)[0] == 0, line


def test_the_report_that_the_page_shows_is_the_real_one(tmp_path: Path) -> None:
    shown = re.search(r"```\n(left out: .*?)```", PAGE, flags=re.DOTALL)
    assert shown is not None
    command = shlex.split(commands()[0])
    shutil.copytree(SAMPLES, tmp_path / "tests" / "import")
    assert run(*command, folder=tmp_path)[2] == shown[1]


def test_the_page_names_every_ready_made_device() -> None:
    files = {f"configs/devices/{path.name}" for path in (ROOT / "configs" / "devices").glob("*.yaml")}
    assert set(re.findall(r"`(configs/devices/\w+\.yaml)`", PAGE)) == files


@pytest.mark.parametrize("option", ["--output", "--device-id", "--device", "--base-address", "--strict"])
def test_the_help_names_the_options_with_an_example(option: str) -> None:
    _, out, _ = run("plcsim", "import", "--help")
    assert option in out
    assert "Example: plcsim import model_1.json model_103.json --output inverter.yaml" in out
