"""The `openpi-flash` command, its texts and exit codes."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import openpi_flash_models
import openpi_flash_server.logs.log_output
import openpi_flash_server.serving.process
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
    for command, what in (
        ("serve", "Serve the models of a configuration"),
        ("check-config", "Check a configuration without serving"),
        ("config", "Check a configuration, or print its schema"),
        ("doctor", "Check this machine for serving"),
        ("plan", "Say how many GPUs robots need"),
        ("ping", "Reach a server and time its answers"),
        ("test", "Test a server and time its answers"),
        ("load", "Load a server with many clients at fixed rates"),
        ("inspect-checkpoint", "Say what a checkpoint is"),
        ("convert-checkpoint", "Write a checkpoint in the other layout"),
        ("prepare-checkpoint", "Fetch weights and statistics into one"),
        ("prepare-planner-checkpoint", "Fetch and unpack a planner"),
        ("make-demo-checkpoint", "Write a small untrained checkpoint"),
    ):
        assert f"  {command:26}  {what}" in result.output


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


def test_what_the_model_cannot_do_ends_serve_before_anything_is_loaded(tmp_path):
    fast = {"model_config_name": "pi0_fast_droid", "checkpoint_dir": "/nowhere"}
    path = write(tmp_path / "c.json", {"action": {**fast, "rtc": {"method": "identity"}}})
    result = run("serve", "--config", path)
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {path}: 1 problem\n  action.rtc.method: pi0-FAST cannot continue a previous "
        "chunk, must be 'off', got 'identity'\n",
    )


def test_serve_takes_the_path_from_the_environment(tmp_path):
    result = run("serve", env={"INFERENCE_CONFIG_PATH": str(tmp_path / "absent.json")})
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path}/absent.json: no such file\n",
    )


# a policy named on the command line


@pytest.fixture
def served(monkeypatch):
    """What would have been served."""
    settings = []

    def serve(config, output):
        settings.append(config)
        return 0

    monkeypatch.setattr(openpi_flash_server.serving.process, "serve", serve)
    monkeypatch.setattr(openpi_flash_server.logs.log_output, "configure", lambda level, form: None)
    return settings


@pytest.mark.parametrize(
    ("env", "name", "checkpoint"),
    [
        ("aloha", "pi05_aloha", "pi05_base"),
        ("aloha_sim", "pi0_aloha_sim", "pi0_aloha_sim"),
        ("DROID", "pi05_droid", "pi05_droid"),
        ("libero", "pi05_libero", "pi05_libero"),
    ],
)
def test_an_environment_names_openpis_policy_and_weights(env, name, checkpoint, served):
    result = run("serve", "--env", env, "--default-prompt", "wave", "--port", "8765")
    assert result.exit_code == 0, result.stderr
    (settings,) = served
    assert settings.mode == "action_only"
    assert settings.action.model_config_name == name
    assert settings.action.checkpoint_dir == f"gs://openpi-assets/checkpoints/{checkpoint}"
    assert settings.action.default_prompt == "wave"
    assert settings.action_transport.websocket_port == 8765


def test_a_policy_is_served_by_name_and_directory(served):
    result = run("serve", "--policy-config", "pi0_fast_droid", "--policy-dir", "/data/mine")
    assert result.exit_code == 0, result.stderr
    assert served[0].action.model_config_name == "pi0_fast_droid"
    assert served[0].action.checkpoint_dir == "/data/mine"


def test_a_flag_names_the_directory_of_recordings(served, tmp_path):
    result = run("serve", "--policy-config", "null", "--record", tmp_path / "records")
    assert result.exit_code == 0, result.stderr
    assert served[0].recording.directory == str(tmp_path / "records")
    assert served[0].recording.requests


def test_a_policy_takes_the_place_of_the_configurations(served, tmp_path):
    path = write(
        tmp_path / "c.json", {"planner": {"checkpoint_dir": "/p"}, "api_keys": ["secret-key"]}
    )
    result = run("serve", "--config", path, "--policy-config", "pi05_droid", "--port", "9000")
    assert result.exit_code == 0, result.stderr
    assert served[0].mode == "combined"
    assert served[0].api_keys == ("secret-key",)
    assert served[0].action_transport.websocket_port == 9000


ROBOT = """
configs:
  - {name: cli_droid, robot: droid, model: pi05, asset_id: mine, action_horizon: 8}
"""


def test_a_robot_file_adds_names_that_the_command_line_and_a_configuration_use(
    served, tmp_path, monkeypatch
):
    from openpi_flash_models.config import named_configs, robot_file

    monkeypatch.setattr(named_configs, "CONFIGS", dict(named_configs.CONFIGS))
    monkeypatch.setattr(robot_file, "_added", {})
    (tmp_path / "robots").mkdir()
    file = tmp_path / "robots" / "mine.yaml"
    file.write_text(ROBOT)
    result = run(
        "serve", "--robot-file", file, "--policy-config", "cli_droid", "--policy-dir", tmp_path
    )
    assert result.exit_code == 0, result.stderr
    path = write(
        tmp_path / "robots" / "c.json",
        {
            "robot_files": ["mine.yaml"],
            "action": {"model_config_name": "cli_droid", "checkpoint_dir": "/d"},
        },
    )
    monkeypatch.setattr(named_configs, "CONFIGS", dict(named_configs.CONFIGS))
    del named_configs.CONFIGS["cli_droid"]
    monkeypatch.setattr(robot_file, "_added", {})
    result = run("serve", "--config", path)
    assert result.exit_code == 0, result.stderr
    assert served[1].action.model_config_name == "cli_droid"


def test_a_robot_file_that_cannot_be_used_is_a_problem_of_its_field(tmp_path):
    (tmp_path / "mine.yaml").write_text("robots: 3")
    path = write(
        tmp_path / "c.json",
        {"robot_files": ["mine.yaml"], "action": {"model_config_name": "null"}},
    )
    result = run("check-config", path)
    assert result.exit_code == 2
    assert f"  robot_files: {tmp_path}/mine.yaml: robots: expected a list, got 3" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--env", "droid", "--policy-config", "pi05_droid"], "name two policies, give one"),
        (["--policy-dir", "/d"], "--policy-dir needs --policy-config"),
        (["--policy-config", "pi05_droid_finetune"], "no released weights of pi05_droid_finetune"),
        (
            ["--policy-config", "pi05_driod"],
            "--policy-config: no config named 'pi05_driod', closest: pi05_droid",
        ),
        (["--env", "droid", "--port", "70000"], "websocket_port: must be at most 65535, got 70000"),
        (["--env", "droid", "--port", "70000"], "(from --port)"),
        (["--env", "droid", "--robot-file", "/none.yaml"], "--robot-file: cannot read /none.yaml"),
    ],
)
def test_a_command_line_that_cannot_be_used_says_why(arguments, problem, served):
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert served == []


def test_serve_without_anything_says_what_to_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("serve", env={"INFERENCE_CONFIG_PATH": ""})
    assert result.exit_code == 2
    assert result.stderr == (
        "error: config.json: no such file; name one with --config, or a policy with --env or "
        "--policy-config\n"
    )


# checkpoints

TINY = Path(openpi_flash_models.__file__).parents[2] / "tests" / "data" / "tiny_pi05"


def test_check_config_tells_all_that_is_known_of_a_checkpoint_without_its_weights(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path))
    action = {"model_config_name": "pi05_aloha", "checkpoint_dir": str(TINY)}
    path = write(tmp_path / "c.json", {"action": action, "state_dir": str(tmp_path)})
    result = run("check-config", "--checkpoints", path)
    assert result.exit_code == 0, result.output
    assert "  action: note: statistics" in result.output
    action["model_config_name"] = "pi05_droid"
    action["checkpoint_dir"] = str(tmp_path / "nowhere")
    write(path, {"action": action, "planner": {"checkpoint_dir": str(tmp_path)}})
    result = run("check-config", "--checkpoints", path)
    assert result.exit_code == 2
    errors = [line for line in result.output.splitlines() if ": error: " in line]
    assert len(errors) == 2
    assert errors[0].startswith("  action: error: ")
    assert "nowhere" in errors[0]
    assert errors[1].startswith("  planner: error: ")


def test_check_config_refuses_what_serve_refuses_at_once(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    path = write(tmp_path / "c.json", {"action": {"model_config_name": "null"}})
    result = run("check-config", path)
    assert result.exit_code == 2
    assert "  error: state_dir: missing, and neither HOME nor XDG_STATE_HOME" in result.output


def test_a_checkpoint_is_described(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path))
    result = run("inspect-checkpoint", TINY)
    assert result.exit_code == 0, result.output
    assert result.output == (
        f"checkpoint  {TINY}, params/ (Orbax)\n"
        "model       pi0.5, 414736 parameters\n"
        "stored as   float32 (51 tensors), 1.7 MB\n"
        "vision      2 layers, 48 wide, 4 heads, patches of 14\n"
        "language    3 layers, 64 wide, 8 heads x 16, vocabulary 2048\n"
        "actions     expert 32 wide, 32 dimensions\n"
        "tokenizer   none: not here, not in the cache\n"
        "statistics  asset id  state  actions  percentiles  robots\n"
        "            trossen      32       32  yes          aloha\n"
        "configs     pi05_aloha, pi05_aloha_pen_uncap\n"
    )


def test_a_checkpoint_is_converted_there_and_back(tmp_path):
    result = run("convert-checkpoint", TINY, tmp_path / "torch", "--config", "pi05_aloha")
    assert result.output == f"wrote {tmp_path}/torch: model.safetensors, 1.7 MB\n"
    assert json.loads((tmp_path / "torch/config.json").read_text())["action_horizon"] == 50
    result = run("convert-checkpoint", tmp_path / "torch", tmp_path / "back")
    assert result.output.startswith(f"wrote {tmp_path}/back: params/, ")
    result = run("convert-checkpoint", tmp_path / "torch", tmp_path / "back")
    assert result.exit_code == 1
    assert (
        result.stderr == f"error: {tmp_path}/back was made before; say --force to make it again\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["inspect-checkpoint", "/nowhere"], "error: no such file or directory: /nowhere\n"),
        (["convert-checkpoint", "/nowhere", "/tmp/x"], "error: no such file or directory"),
        (["convert-checkpoint", TINY, "/proc/x/y"], "error: cannot write /proc/x"),
        (["prepare-checkpoint", "--output-dir", TINY], "holds files that this command did not"),
    ],
)
def test_a_command_that_cannot_do_it_ends_with_one_line(arguments, problem):
    result = run(*arguments)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


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
    name = "openpi_flash_models.demo.checkpoint"
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
