"""The `openpi-flash` command, its texts and exit codes."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import openpi_flash_models
from openpi_flash_server.cli import app
from openpi_flash_server.commands.make_demo_checkpoint import MARKER

EXAMPLES = sorted((Path(__file__).parents[3] / "config").glob("server.*.json"))


def run(*arguments, env=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)


def write(path, values):
    path.write_text(json.dumps(values))
    return path


def test_help_lists_the_commands_each_in_one_line():
    result = run("--help")
    assert result.exit_code == 0
    assert "serve                 Serve the models of a configuration." in result.output
    assert "check-config          Check a configuration without serving." in result.output
    assert "make-demo-checkpoint  Write a small untrained checkpoint." in result.output


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from typer.testing import CliRunner; from openpi_flash_server.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "heavy = {'numpy', 'jax', 'pydantic', 'websockets', 'flash_transport'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_version_is_the_packages():
    version = importlib.metadata.version("openpi_flash_server")
    assert run("--version").output == f"openpi-flash {version}\n"


def test_a_good_configuration_is_summed_up(tmp_path):
    path = write(
        tmp_path / "c.json",
        {"action": {"model_config_name": "null"}, "planner": {"checkpoint_dir": "/nowhere"}},
    )
    result = run("check-config", path)
    assert result.exit_code == 0
    assert result.output == (
        f"{path}: ok (mode=combined, slots=['action', 'planner'])\n"
        "  action: 0.0.0.0, WebSocket 8000/tcp, QUIC 5555/udp\n"
        "  planner: 0.0.0.0, WebSocket 8002/tcp, QUIC 5556/udp\n"
        "  note: planner.checkpoint_dir /nowhere is not on this machine\n"
    )


@pytest.mark.parametrize("command", [["check-config"], ["serve", "--config"]])
def test_a_bad_configuration_ends_every_command_with_code_2_and_one_error(tmp_path, command):
    path = write(tmp_path / "c.json", {"action": {"model_config_name": "null", "prompt": "x"}})
    result = run(*command, path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: 1 problem\n  action.prompt: unknown key, ")
    assert len(result.stderr.splitlines()) == 2


def test_serve_takes_the_path_from_the_environment(tmp_path):
    result = run("serve", env={"INFERENCE_CONFIG_PATH": str(tmp_path / "absent.json")})
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path}/absent.json: no such file\n",
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_configuration_is_valid(path):
    result = run("check-config", path)
    assert result.exit_code == 0, result.output


def test_there_are_examples():
    names = {path.name for path in EXAMPLES}
    assert {"server.action.json", "server.combined.json", "server.demo.json"} <= names


# make-demo-checkpoint


@pytest.fixture
def quick_writer(monkeypatch):
    """Writes one file in place of a model; the real one is tested where it is served."""
    written = []

    def write_demo_checkpoint(directory):
        (directory / "action").mkdir()
        (directory / "action" / "params").write_text("weights")
        written.append(directory)

    import types

    module = types.SimpleNamespace(write_demo_checkpoint=write_demo_checkpoint)
    name = "openpi_flash_models.demo_checkpoint"
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(openpi_flash_models, "demo_checkpoint", module, raising=False)
    return written


def test_a_demo_checkpoint_is_written_whole_with_a_mark_of_its_maker(tmp_path, quick_writer):
    target = tmp_path / "new" / "demo"
    result = run("make-demo-checkpoint", target)
    assert result.exit_code == 0
    assert result.output == f"wrote {target}: 0 MB, untrained weights\n"
    assert (target / "action" / "params").read_text() == "weights"
    assert (target / MARKER).is_file()
    assert sorted(path.name for path in target.parent.iterdir()) == ["demo"]


def test_a_demo_checkpoint_may_be_made_again_and_in_an_empty_directory(tmp_path, quick_writer):
    assert run("make-demo-checkpoint", tmp_path).exit_code == 0
    (tmp_path / "action" / "stale").write_text("old")
    assert run("make-demo-checkpoint", tmp_path).exit_code == 0
    assert not (tmp_path / "action" / "stale").exists()
    assert len(quick_writer) == 2


def test_files_of_others_are_never_overwritten(tmp_path, quick_writer):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run("make-demo-checkpoint", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {tmp_path}: holds files that this command did not write; "
        "choose an empty or new directory\n"
    )
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert quick_writer == []


def test_a_file_is_no_directory_to_write(tmp_path, quick_writer):
    (tmp_path / "file").write_text("x")
    result = run("make-demo-checkpoint", tmp_path / "file")
    assert (result.exit_code, result.stderr) == (1, f"error: {tmp_path}/file: is a file\n")
