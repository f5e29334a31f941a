import importlib.util
import subprocess
import sys

import pytest

from openpi_flash_models.checkpoints.framework import choose_framework
from openpi_flash_models.errors import CheckpointError, InferenceConfigError


@pytest.fixture
def checkpoints(tmp_path):
    (tmp_path / "orbax/params").mkdir(parents=True)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/model.safetensors").touch()
    return tmp_path


@pytest.fixture
def torch_is(monkeypatch):
    """Function: whether PyTorch seems to be installed."""
    find_spec = importlib.util.find_spec

    def pretend(installed):
        def find(name, *arguments):
            return (
                object()
                if name == "torch" and installed
                else (None if name == "torch" else find_spec(name, *arguments))
            )

        monkeypatch.setattr(importlib.util, "find_spec", find)

    return pretend


@pytest.mark.parametrize(
    ("layout", "installed", "kind", "chosen"),
    [
        ("orbax", True, "pi05", "jax"),
        ("torch", True, "pi05", "pytorch"),
        ("torch", True, "pi0", "pytorch"),
        ("torch", False, "pi05", "jax"),
        ("torch", True, "pi0_fast", "jax"),
    ],
)
def test_the_files_choose_the_framework_as_in_openpi(  # noqa: PLR0917
    checkpoints, torch_is, layout, installed, kind, chosen
):
    torch_is(installed)
    assert choose_framework("auto", checkpoints / layout, kind) == chosen


@pytest.mark.parametrize("layout", ["orbax", "torch"])
def test_either_framework_can_be_asked_for(layout, checkpoints, torch_is):
    torch_is(True)
    for wanted in ("jax", "pytorch"):
        assert choose_framework(wanted, checkpoints / layout, "pi05") == wanted


def test_what_cannot_be_had_is_an_error_that_says_what_to_do(checkpoints, torch_is):
    torch_is(False)
    with pytest.raises(InferenceConfigError, match="pip install"):
        choose_framework("pytorch", checkpoints / "torch", "pi05")
    with pytest.raises(InferenceConfigError, match="JAX only"):
        choose_framework("pytorch", checkpoints / "torch", "pi0_fast")
    with pytest.raises(InferenceConfigError, match="'tensorflow', known: auto, jax, pytorch"):
        choose_framework("tensorflow", checkpoints / "torch", "pi05")
    torch_is(True)
    with pytest.raises(CheckpointError, match="neither"):
        choose_framework("auto", checkpoints, "pi05")


def test_loading_imports_no_framework_before_one_is_chosen():
    code = "import openpi_flash_models.load, sys; print({'jax', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
