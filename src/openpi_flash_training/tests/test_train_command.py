"""`openpi-flash train` as a user meets it."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import types

import pytest
import typer
from train_runs import small_tree, write_dataset
from typer.testing import CliRunner

from openpi_flash_models.checkpoints.check import check_policy_checkpoint
from openpi_flash_server.cli import app
from openpi_flash_training.commands.failure import one_line_errors
from openpi_flash_training.train.checkpoints import newest_whole

pytestmark = pytest.mark.usefixtures("quick_model")
_PATIENCE = 600
"""Seconds of a process on a machine that does much else."""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(small_tree(tmp_path)))
    return str(file)


def run(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_a_run_is_told_from_its_data_to_its_last_checkpoint_which_can_be_served(config, tmp_path):
    done = run(config, "--steps", 2)
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'dataset'}: 24 samples in 3 episodes" in done.output
    assert "cameras: base_0_rgb, left_wrist_0_rgb" in done.output
    assert re.search(r"^step 2: loss [\d.]+  flow_loss .* grad_norm ", done.output, re.M)
    last = tmp_path / "run/1"
    assert done.output.splitlines()[-1] == f"done: 2 steps, the last checkpoint is {last}"
    findings = check_policy_checkpoint("pi05_sim_arm", str(last))
    assert [finding for finding in findings if finding.severity == "error"] == []


def test_a_dry_run_prints_the_parameters_and_writes_nothing(config, tmp_path):
    lora = 'model.lora={"language": {"rank": 2, "alpha": 2}, "expert": {"rank": 2, "alpha": 2}}'
    dataset = write_dataset(tmp_path / "short", lengths=(9, 1))
    done = run(
        config,
        "--dry-run",
        "--dataset",
        dataset,
        "--set",
        lora,
        "--set",
        "optimizer.ema_decay=null",
    )
    assert done.exit_code == 0, done.output
    assert re.search("^(warning|error): length: .*episode 1", done.output, re.M), "lint is heard"
    lines = {line.split()[0]: line for line in done.output.splitlines() if "/" in line}
    embedding = lines["PaliGemma/llm/embedder/input_embedding"]
    assert embedding.endswith("frozen")
    assert "bfloat16" in embedding
    assert lines["PaliGemma/llm/layers/attn/q_einsum/lora_a"].endswith("trained")
    assert lines["action_in_proj/kernel"].endswith("trained")
    assert re.search(r"[\d,]+ parameters, [\d,]+ trained, [\d,]+ frozen", done.output)
    assert "memory of each of 1 devices: " in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "run.stepz=1"], "error: run.stepz: there is no such setting, did you mean run"),
        (["--dataset", "/no/data"], "error: /no/data"),
        (["--weights", "/no/weights"], "error: no such file or directory: /no/weights"),
        (["--set", "model.size=tiny"], "error: model.weights, model.size: give one of them"),
        (["--batch-size", "3", "--set", "run.accumulation=2"], "error: run: run.accumulation"),
    ],
)
def test_what_is_wrong_is_one_line(config, arguments, message):
    done = run(config, *arguments)
    assert done.exit_code == 1
    assert message.removeprefix("error: run: ") in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), "/a: no such file"),
    ],
)
def test_an_error_of_the_system_names_its_file_where_it_has_one(error, message, capsys):
    with pytest.raises(typer.Exit), one_line_errors():
        raise error
    assert capsys.readouterr().err == f"error: {message}\n"


def test_words_that_exclude_each_other_are_refused(config):
    assert "exclude each other" in run(config, "--resume", "--overwrite").output
    assert "need --coordinator" in run(config, "--processes", 2).output


def test_an_unknown_name_names_the_nearest_one():
    done = run("pi05_positronic_lowmen")
    assert "did you mean pi05_positronic_lowmem?" in done.output
    assert "model.config: is missing" in run("pi05_positronic_lowmem").output


def test_a_run_that_is_there_is_neither_deleted_nor_gone_on_with_by_chance(config, tmp_path):
    assert run(config, "--steps", 1).exit_code == 0
    done = run(config, "--steps", 1)
    assert done.exit_code == 1
    assert "go on with it by --resume, or delete it by --overwrite" in done.output
    done = run(config, "--steps", 2, "--resume")
    assert "going on after 1 of 2 steps" in done.output
    assert newest_whole(tmp_path / "run") == 1
    assert run(config, "--steps", 1, "--overwrite").exit_code == 0
    assert newest_whole(tmp_path / "run") == 0


def test_tensorboard_gets_the_metrics(config, tmp_path):
    assert run(config, "--steps", 1, "--tensorboard").exit_code == 0
    (events,) = (tmp_path / "run/tensorboard").iterdir()
    assert b"grad_norm" in events.read_bytes()


def test_a_missing_wandb_says_what_to_install(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = run(config, "--steps", 1, "--wandb", "robots")
    assert done.exit_code == 1
    assert "pip install './src/openpi_flash_training[wandb]'" in done.output
    assert not (tmp_path / "run").exists()


def test_wandb_is_offline_and_a_resumed_run_goes_on_with_its_own(config, tmp_path, monkeypatch):
    class Run:
        id = "abc"

        def __init__(self, given):
            self.given, self.logged = given, []

        def log(self, metrics, step):
            self.logged.append((step, metrics["loss"]))

        def finish(self):
            self.finished = True

    runs = []

    def init(**given):
        runs.append(Run(given))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert run(config, "--steps", 1, "--wandb", "robots").exit_code == 0
    assert run(config, "--steps", 2, "--wandb", "robots", "--resume").exit_code == 0
    first, second = runs
    assert (first.given["project"], first.given["mode"], first.given["id"]) == (
        "robots",
        "offline",
        None,
    )
    assert second.given["id"] == "abc"
    assert [step for step, _ in first.logged + second.logged] == [0, 1]
    assert second.finished


def test_a_run_that_is_not_finite_ends_and_is_not_saved(config, tmp_path):
    done = run(config, "--set", "optimizer.peak_rate=1e30", "--set", "optimizer.clip_norm=1e30")
    assert done.exit_code == 1
    assert re.search(r"error: the (loss|param_norm) of step \d+ is (nan|inf)", done.output)
    assert newest_whole(tmp_path / "run") is None


@pytest.mark.timeout(2 * _PATIENCE)
def test_ctrl_c_saves_and_says_how_to_go_on(config, tmp_path):
    command = [sys.executable, "-c", "from openpi_flash_server.cli import app; app()", "train"]
    process = subprocess.Popen(
        [*command, config, "--steps", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step 2:"):
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=_PATIENCE)
    output = "".join(lines) + rest
    assert process.returncode == 130, output
    assert "stopping after this step, then saving (Ctrl-C again: at once)" in output
    step = newest_whole(tmp_path / "run")
    assert output.splitlines()[-1] == (
        f"stopped after {step + 1} of 100000 steps, saved as {tmp_path / 'run' / str(step)}; "
        "go on by the same command with --resume"
    )
