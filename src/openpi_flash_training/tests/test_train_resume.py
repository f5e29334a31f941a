"""A run that was killed goes on as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from train_runs import Silent, losses, quick_loss, small_settings, small_tree

from openpi_flash_models.checkpoints.orbax import read_leaves
from openpi_flash_models.demo.tokenizer import tokenizer_model
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.text.tokenizer import PATH_VARIABLE
from openpi_flash_training.train import plan
from openpi_flash_training.train.checkpoints import newest_whole
from openpi_flash_training.train.problem import SettingsError, TrainingError
from openpi_flash_training.train.run import train

SCRIPT = Path(__file__).parent / "train_process.py"
STEPS = 14
_PATIENCE = 600
"""Seconds of a process on a machine that does much else."""


def start(tree, *options):
    file = Path(tree["run"]["output"]).with_suffix(".json")
    file.write_text(json.dumps(tree))
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(file), *options],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )


def tree_of(root, name, **run):
    """A run whose augmentation, noise and running mean would show a lost random state."""
    return small_tree(
        root,
        loss={"augment": {}},
        optimizer={"ema_decay": 0.9},
        run={"output": str(root / name), "steps": STEPS, "save_every": 3, **run},
    )


@pytest.mark.timeout(2 * _PATIENCE)
def test_after_sigkill_the_losses_are_those_of_an_uninterrupted_run_to_the_last_bit(tmp_path):
    whole, killed = tree_of(tmp_path, "whole"), tree_of(tmp_path, "killed")
    assert start(whole).returncode == 0
    done = start(killed, "--kill-after", "5")
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    before = newest_whole(tmp_path / "killed")
    assert before is not None
    assert before < STEPS - 1
    done = start(killed, "--resume")
    assert done.returncode == 0, done.stderr[-2000:]
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert list(found) == list(range(STEPS))
    assert found == expected
    leaves = [read_leaves(tmp_path / name / f"{STEPS - 1}/params") for name in ("whole", "killed")]
    for path, leaf in leaves[0].items():
        assert np.array_equal(leaf, leaves[1][path]), path


in_process = pytest.mark.usefixtures("quick_model")


def run_for(root, *, stop_after=None, resume=False, overwrite=False, **sections):
    settings = small_settings(root, **sections)
    listener = Silent()
    outcome = train(
        settings,
        listener,
        resume=resume,
        overwrite=overwrite,
        should_stop=lambda: stop_after is not None and listener.steps[-1] == stop_after,
    )
    return outcome, listener


@in_process
def test_a_run_that_is_told_to_stop_saves_and_goes_on(tmp_path):
    outcome, listener = run_for(tmp_path, stop_after=1)
    assert (outcome.steps, outcome.finished) == (2, False)
    assert listener.saved == [1]
    assert outcome.checkpoint == tmp_path / "run/1"
    outcome, listener = run_for(tmp_path, resume=True)
    assert (listener.first, listener.steps) == (2, [2, 3])
    assert (outcome.steps, outcome.finished) == (4, True)
    assert list(losses(tmp_path / "run")) == [0, 1, 2, 3]


@in_process
def test_a_finished_run_is_not_trained_again_but_may_be_made_longer(tmp_path):
    run_for(tmp_path)
    outcome, listener = run_for(tmp_path, resume=True)
    assert (outcome.finished, listener.steps) == (True, [])
    outcome, listener = run_for(tmp_path, resume=True, run={"steps": 5})
    assert listener.steps == [4]


@in_process
def test_resuming_what_never_began_begins(tmp_path):
    outcome, listener = run_for(tmp_path, resume=True)
    assert (outcome.finished, listener.first) == (True, 0)


@in_process
def test_a_resumed_run_keeps_what_decides_its_result(tmp_path):
    run_for(tmp_path, stop_after=1)
    with pytest.raises(SettingsError, match="optimizer.peak_rate: was 0.001, now it is 0.1"):
        run_for(tmp_path, resume=True, optimizer={"peak_rate": 0.1})
    with pytest.raises(CheckpointError, match="go on with it by --resume"):
        run_for(tmp_path)


def loss_of_no_gradient(params, batch, key, *, settings):
    """Finite; its gradient is not a number."""
    total, parts = quick_loss(params, batch, key, settings=settings)
    return total + jnp.sqrt(0 * params["action_out_proj"]["kernel"].sum()), parts


@in_process
def test_a_gradient_that_is_no_number_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    run_for(tmp_path, stop_after=1)
    monkeypatch.setattr(plan, "loss", loss_of_no_gradient)
    with pytest.raises(TrainingError, match="the grad_norm of step 2 is nan, nothing is saved"):
        run_for(tmp_path, resume=True, run={"save_every": 1})
    assert newest_whole(tmp_path / "run") == 1
    for path, leaf in read_leaves(tmp_path / "run/1/params").items():
        assert np.isfinite(leaf).all(), path


@in_process
def test_parameters_that_an_update_has_blown_up_are_not_saved(tmp_path):
    huge = {"peak_rate": 1e38, "clip_norm": 1e38}
    with pytest.raises(TrainingError, match="the param_norm of step 0 is inf"):
        run_for(tmp_path, stop_after=0, optimizer=huge, run={"log_every": 100})
    assert newest_whole(tmp_path / "run") is None


@in_process
@pytest.mark.parametrize("named_by", ["settings", "environment"])
def test_a_resumed_run_keeps_its_statistics_and_tokenizer_and_needs_no_base(
    named_by, tmp_path, monkeypatch
):
    words = tmp_path / "own.model"
    words.write_bytes(tokenizer_model())
    model = {"tokenizer": str(words)} if named_by == "settings" else {}
    run_for(tmp_path, stop_after=1, model=model)
    stats_file = tmp_path / "dataset/assets/sim_arm/norm_stats.json"
    stats, pieces = stats_file.read_bytes(), words.read_bytes()
    stats_file.unlink()
    shutil.rmtree(tmp_path / "weights/params")
    words.write_bytes(b"another tokenizer")
    if named_by == "environment":
        monkeypatch.setenv(PATH_VARIABLE, str(words))
    run_for(tmp_path, resume=True, model=model)
    last = tmp_path / "run/3"
    assert (last / "assets/sim_arm/norm_stats.json").read_bytes() == stats
    assert (last / "tokenizer/paligemma_tokenizer.model").read_bytes() == pieces


@in_process
def test_overwriting_begins_anew(tmp_path):
    run_for(tmp_path)
    _, listener = run_for(tmp_path, overwrite=True, run={"steps": 2})
    assert listener.steps == [0, 1]
    assert newest_whole(tmp_path / "run") == 1
    assert list(losses(tmp_path / "run")) == [0, 1]


@in_process
@pytest.mark.parametrize(
    ("section", "field", "inside"),
    [
        ("model", "weights", "1"),
        ("model", "tokenizer", "1/tokenizer/paligemma_tokenizer.model"),
        ("data", "statistics", "1"),
        ("data", "dataset", "dataset"),
    ],
)
def test_overwriting_does_not_delete_what_the_new_run_is_made_from(
    section, field, inside, tmp_path
):
    run_for(tmp_path, run={"steps": 2})
    shutil.copytree(tmp_path / "dataset", tmp_path / "run/dataset")
    linked = tmp_path / "linked"
    linked.symlink_to(tmp_path / "run")
    with pytest.raises(
        SettingsError, match=rf"{section}\.{field}: .* lies in .*/run, which --over"
    ):
        run_for(tmp_path, overwrite=True, **{section: {field: str(linked / inside)}})
    assert newest_whole(tmp_path / "run") == 1
    assert (tmp_path / "run/dataset/meta/info.json").is_file()
