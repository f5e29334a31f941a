"""Several devices and several hosts give the loss of one device."""

import json
import os
import re
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


def finish(process, devices, *, fsdp_devices=1):
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, err[-3000:]
    assert f"devices {devices}\n" in out
    spread = re.search(r"^spread (\d+)$", out, re.M)
    assert spread is not None
    assert (int(spread[1]) > 0) is (fsdp_devices > 1)
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
    finish(launch(root, name, 4, "--quick", **run), 4, fsdp_devices=run.get("fsdp_devices", 1))
    assert losses(root / name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.timeout(3 * _PATIENCE)
@pytest.mark.parametrize(("devices", "fsdp_devices"), [(4, 4), (1, 1)])
def test_a_spread_checkpoint_is_gone_on_with_on_any_devices(devices, fsdp_devices, one_device):
    root, expected = one_device
    name = f"spread_then_{devices}"
    finish(launch(root, name, 4, "--quick", fsdp_devices=4, steps=2), 4, fsdp_devices=4)
    saved = (root / name / "1/params/_sharding").read_text()
    assert "fsdp" in saved
    resumed = launch(root, name, devices, "--quick", "--resume", fsdp_devices=fsdp_devices)
    finish(resumed, devices, fsdp_devices=fsdp_devices)
    assert losses(root / name) == pytest.approx(expected, rel=1e-5)


@pytest.mark.timeout(2 * _PATIENCE)
def test_the_models_own_loss_is_the_same_on_four_devices(tmp_path):
    finish(launch(tmp_path, "one", 1), 1)
    finish(launch(tmp_path, "four", 4, fsdp_devices=2), 4, fsdp_devices=2)
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


@pytest.mark.timeout(2 * _PATIENCE)
@pytest.mark.parametrize("fsdp_devices", [1, 4])
def test_two_processes_give_the_loss_of_one_and_each_keeps_its_place(fsdp_devices, one_device):
    root, expected = one_device
    name = f"hosts_{fsdp_devices}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = [f"{i}/2@127.0.0.1:{port}" for i in range(2)]
    parts = [
        launch(root, name, 2, "--quick", "--part", place, fsdp_devices=fsdp_devices)
        for place in places
    ]
    for part in parts:
        finish(part, 4, fsdp_devices=fsdp_devices)
    assert losses(root / name) == pytest.approx(expected, rel=1e-5)
    kept = sorted(path.name for path in (root / name / "2/loader").glob("process_*"))
    assert kept == ["process_0_of_2.json", "process_1_of_2.json"]
