"""Several devices and several hosts give the loss of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from train_runs import losses, small_tree

_PATIENCE = 600
"""Seconds of a process on a machine that does much else."""
SCRIPT = Path(__file__).parent / "train_process.py"


def environment(devices):
    # not optimised: most of such a process's time is compilation
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def launch(root, name, devices, *options, **run):
    tree = small_tree(root, run={"output": str(root / name), "steps": 3, "batch_size": 8, **run})
    file = root / f"{name}.json"
    file.write_text(json.dumps(tree))
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(file), *options],
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, devices):
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, err[-3000:]
    assert f"devices {devices}\n" in out
    assert "finished True" in out


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    root = tmp_path_factory.mktemp("devices")
    finish(launch(root, "one", 1, "--quick"), 1)
    return root, losses(root / "one")


@pytest.mark.timeout(2 * _PATIENCE)
@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("data_parallel", {}),
        ("fsdp", {"fsdp_devices": 4}),
        ("both_in_parts", {"fsdp_devices": 2, "accumulation": 2}),
    ],
)
def test_four_devices_give_the_loss_of_one(name, run, one_device):
    root, expected = one_device
    if "accumulation" in run:
        finish(launch(root, "parts", 1, "--quick", accumulation=2), 1)
        expected = losses(root / "parts")
    finish(launch(root, name, 4, "--quick", **run), 4)
    assert losses(root / name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.timeout(2 * _PATIENCE)
def test_the_models_own_loss_is_the_same_on_four_devices(tmp_path):
    finish(launch(tmp_path, "one", 1), 1)
    finish(launch(tmp_path, "four", 4, fsdp_devices=2), 4)
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.timeout(2 * _PATIENCE)
def test_two_processes_give_the_loss_of_one_and_each_keeps_its_place(one_device):
    root, expected = one_device
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = [
        launch(root, "hosts", 2, "--quick", "--part", f"{i}/2@127.0.0.1:{port}") for i in range(2)
    ]
    for part in parts:
        finish(part, 4)
    assert losses(root / "hosts") == pytest.approx(expected, rel=1e-5)
    places = sorted(path.name for path in (root / "hosts/2/loader").glob("process_*"))
    assert places == ["process_0_of_2.json", "process_1_of_2.json"]
