"""Machines of any number of parameters: valid, plannable, and their process runs or idles as asked."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from bench.load.machine import FEWEST_PARAMETERS, GROUP_SIZE, machine
from bench.load.scan_source import PrecomputedScans
from logger.reading.read_plan import plan_reads
from logger.scan import Quality, ScanLayout
from plcsim.config import DeviceConfig
from plcsim.device_file import load_device, parse_device
from plcsim.signals import PlcScan
from plcsim.truth import Truth

SIZES = [5, 6, 39, 40, 41, 84, 121, 200, 300, 1000]


@pytest.fixture(scope="module")
def machines() -> dict[int, DeviceConfig]:
    return {n: machine(n) for n in SIZES}


def test_every_number_of_parameters_makes_a_valid_machine() -> None:
    sizes = [*range(FEWEST_PARAMETERS, 2 * GROUP_SIZE + 10), 199, 200, 201, 299, 300]
    assert [len(machine(n).register_map.parameters) for n in sizes] == list(sizes)


@pytest.mark.parametrize("n", [5, 41, 200])
def test_it_loads_from_a_file_as_any_device(
    n: int, machines: dict[int, DeviceConfig], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("machine") / "device.yaml"
    path.write_text(yaml.safe_dump(machines[n].to_json()), encoding="utf-8")
    assert load_device(path) == machines[n]
    assert parse_device(machines[n].to_json()).sha256 == machines[n].sha256


@pytest.mark.parametrize("n", SIZES)
def test_each_group_is_read_in_one_request_and_has_its_scan_counter(
    n: int, machines: dict[int, DeviceConfig]
) -> None:
    config = machines[n]
    blocks = plan_reads(config)
    read = [p.parameter_id for block in blocks for p in block.parameters]
    assert sorted(read) == list(range(1, n + 1))
    for group in config.groups:
        ids = {spec.id for spec in group.parameters}
        assert len(ids) <= GROUP_SIZE
        assert any(ids <= {p.parameter_id for p in block.parameters} for block in blocks)
        assert sum(isinstance(spec.signal, PlcScan) for spec in group.parameters) == 1


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("n", [5, 84, 200])
def test_the_process_runs_or_idles_throughout(n: int, running: bool) -> None:
    config = machine(n, running=running)
    layout, truth = ScanLayout(config), Truth(config)
    scans = np.array([1, 2, 1000, 86_400, 1_000_000, 8_000_000])  # up to nine days
    numbers = [layout.process_number(values, None) for values in truth.values_at(scans)]
    assert numbers == [1 if running else None] * len(scans)
    assert layout.recipe == "bench"


@pytest.mark.parametrize("running", [True, False])
def test_prepared_scans_are_the_truth_again_and_again(running: bool) -> None:
    config = machine(45, running=running)
    source, truth = PrecomputedScans(config), Truth(config)
    for number in (1, 2, 1023, 1024, 1025, 5000):
        scan = source.next(number)
        plc_scan = int(scan.values[0])
        assert scan.number == number
        assert scan.values.tolist() == truth.values_at(np.array([plc_scan]))[0].tolist()
        assert scan.process_number == (1 if running else None)
        assert set(scan.quality) == {Quality.GOOD}
    assert source.next(7).values.tolist() == source.next(7 + 1024).values.tolist()


def test_about_one_parameter_in_six_has_a_set_value_that_it_follows(
    machines: dict[int, DeviceConfig],
) -> None:
    parameters = machines[84].register_map.parameters
    with_setpoint = [p for p in parameters if p.setpoint is not None]
    assert 84 / 8 < len(with_setpoint) < 84 / 5
    assert {p.setpoint for p in with_setpoint} == {4}


def test_machines_of_equal_size_are_equal_and_others_have_other_noise() -> None:
    assert machine(84) == machine(84)
    first, second = (Truth(machine(n)).values_at(np.arange(50))[:, 6] for n in (84, 85))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("n", [4, 1, 0, -3])
def test_too_few_parameters_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="at least 5"):
        machine(n)
