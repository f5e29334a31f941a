"""Checkpoints: openpi's layout, whole or not there, and errors that say what to do."""

import collections
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toy_model import Run, batches, params, recipe

from openpi_flash_models.checkpoints.orbax import read_leaves
from openpi_flash_models.errors import CheckpointError
from openpi_flash_training.train import checkpoints
from openpi_flash_training.train.checkpoints import (
    SETTINGS,
    CheckpointStore,
    newest_whole,
    prepare_directory,
)

COMPANIONS = {
    "assets": {"robots/arm/norm_stats.json": b'{"norm_stats": {}}', SETTINGS: b"{}"},
    "tokenizer": {"paligemma_tokenizer.model": b"words"},
}


@pytest.fixture
def store(tmp_path):
    made = CheckpointStore(tmp_path / "run", keep_every=None, companions=COMPANIONS)
    yield made
    made.close()


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        a.dtype == b.dtype and (np.asarray(a) == np.asarray(b)).all() for a, b in pairs
    )


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_state_comes_back_to_the_bit(ema, store):
    run = Run(recipe(ema_decay=ema))
    run.take(batches(3))
    assert store.save(run.state, b'{"next_batch": 3}') == 2  # the last step done
    store.wait()
    state, loader = store.restore(2, run.like())
    assert loader == b'{"next_batch": 3}'
    assert equal(state, run.state)


def test_the_directory_is_openpis(store):
    run = Run()
    run.take(batches(3))
    store.save(run.state, b"{}")
    store.wait()
    step = store.directory / "2"
    names = {path.name for path in step.iterdir()}
    assert {"params", "train_state", "assets", "_CHECKPOINT_METADATA"} <= names
    assert (step / "assets/robots/arm/norm_stats.json").read_bytes() == b'{"norm_stats": {}}'
    assert (step / "tokenizer/paligemma_tokenizer.model").read_bytes() == b"words"
    tree = json.loads((step / "train_state/_METADATA").read_text())["tree_metadata"]
    # the paths of openpi's own (reference/openpi/tiny-pi05-lora/ckpt_as_trained), where only
    # trained leaves have moments
    assert set(tree) == {
        "('step',)",
        "('params',)",
        "('model_def',)",
        "('ema_params',)",
        "('opt_state', '0')",
        "('opt_state', '1', '0', 'count')",
        "('opt_state', '1', '0', 'mu', 'first', 'kernel', 'value')",
        "('opt_state', '1', '0', 'mu', 'second', 'kernel', 'value')",
        "('opt_state', '1', '0', 'nu', 'first', 'kernel', 'value')",
        "('opt_state', '1', '0', 'nu', 'second', 'kernel', 'value')",
        "('opt_state', '1', '1')",
        "('opt_state', '1', '2', 'count')",
    }
    tree = json.loads((step / "params/_METADATA").read_text())["tree_metadata"]
    assert set(tree) == {
        "('params', 'first', 'kernel', 'value')",
        "('params', 'second', 'kernel', 'value')",
        "('params', 'second', 'bias', 'value')",
    }


def test_orbax_and_the_servers_reader_restore_the_parameters(store):
    run = Run()
    run.take(batches(2))
    store.save(run.state, b"{}")
    store.wait()
    place = store.directory / "1"
    expected = {
        ("params", "first", "kernel"): run.state.params["first"]["kernel"],
        ("params", "second", "kernel"): run.state.params["second"]["kernel"],
        ("params", "second", "bias"): run.state.params["second"]["bias"],
    }
    ours = read_leaves(place / "params")
    assert ours.keys() == expected.keys()
    with ocp.PyTreeCheckpointer() as reader:
        metadata = reader.metadata(place / "params").item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        theirs = reader.restore(
            place / "params", ocp.args.PyTreeRestore(item=metadata, restore_args=args)
        )
        metadata = reader.metadata(place / "train_state").item_metadata.tree
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        steps = reader.restore(
            place / "train_state", ocp.args.PyTreeRestore(item=metadata, restore_args=args)
        )
    for path, leaf in expected.items():
        assert (ours[path] == np.asarray(leaf)).all()
        assert (theirs["params"][path[1]][path[2]]["value"] == np.asarray(leaf)).all()
    assert int(steps["step"]) == 2  # updates done


def test_with_a_running_mean_it_is_what_is_served(store):
    run = Run(recipe(ema_decay=0.5))
    run.take(batches(2))
    store.save(run.state, b"{}")
    store.wait()
    served = read_leaves(store.directory / "1/params")[("params", "first", "kernel")]
    assert (served == np.asarray(run.state.ema["first"]["kernel"])).all()
    assert (served != np.asarray(run.state.params["first"]["kernel"])).any()


def test_saving_does_not_see_what_comes_after(store):
    run = Run()
    run.take(batches(2))
    before = jax.tree.map(np.array, run.state)
    store.save(run.state, b"{}")
    run.take(batches(20))  # gives the saved buffers up while they are written
    store.wait()
    assert equal(store.restore(1, run.like())[0], before)


def test_old_checkpoints_go_but_those_of_the_period(tmp_path):
    store = CheckpointStore(tmp_path / "run", keep_every=4, companions={})
    run = Run()
    for batch in batches(7):
        run.take([batch])
        store.save(run.state, b"{}")
    store.close()
    kept = sorted(int(path.name) for path in (tmp_path / "run").iterdir())
    assert kept == [0, 4, 6]


def test_what_was_not_written_to_its_end_is_no_checkpoint(tmp_path):
    run = Run()
    run.take(batches(2))
    for _ in range(2):
        store = CheckpointStore(tmp_path / "run", keep_every=None, companions=COMPANIONS)
        if newest_whole(store.directory) is None:
            store.save(run.state, b"{}")
        store.close()
    directory = tmp_path / "run"
    shutil.copytree(directory / "1", directory / "7.orbax-checkpoint-tmp")
    partial = directory / "9"
    partial.mkdir()
    (partial / "params").mkdir()
    assert newest_whole(directory) == 1
    CheckpointStore(directory, keep_every=None, companions=COMPANIONS).close()
    assert sorted(path.name for path in directory.iterdir()) == ["1"]


def test_a_checkpoint_of_another_size_is_refused_by_name(store):
    run = Run()
    run.take(batches(1))
    store.save(run.state, b"{}")
    store.wait()
    other = run.like()
    kernel = other.params["first"]["kernel"]
    other.params["first"]["kernel"] = jax.ShapeDtypeStruct(
        (9, 16), np.float32, sharding=kernel.sharding
    )
    with pytest.raises(CheckpointError) as caught:
        store.restore(0, other)
    assert "mis-shaped tensor params/first/kernel (shape (8, 16), expected (9, 16))" in str(
        caught.value
    )
    assert "of another model or of other adapters than the settings" in str(caught.value)


def test_a_broken_checkpoint_is_named(store):
    run = Run()
    run.take(batches(1))
    store.save(run.state, b"{}")
    store.wait()
    shutil.rmtree(store.directory / "0/train_state")
    with pytest.raises(CheckpointError, match="cannot restore step 0 in .*/run: "):
        store.restore(0, run.like())


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(store, monkeypatch):
    run = Run()
    run.take(batches(1))
    store.save(run.state, b"{}")
    run.take(batches(1))
    usage = collections.namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError) as caught:
        store.save(run.state, b"{}")
    assert "cannot save step 1" in str(caught.value)
    assert "0.00 GB are free" in str(caught.value)
    assert f"the newest whole checkpoint is {store.directory / '0'}" in str(caught.value)
    new = store.directory.parent / "new"
    with pytest.raises(CheckpointError, match="name a directory on another disk"):
        prepare_directory(new, resume=False, overwrite=False, needed=10**6)


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from openpi_flash_models.errors import CheckpointError
from openpi_flash_training.train.checkpoints import CheckpointStore, newest_whole
from toy_model import Run, batches
store = CheckpointStore(Path({run!r}), keep_every=None, companions={{}})
run = Run()
run.take(batches(1))
store.save(run.state, b"{{}}")
store.wait()
run.take(batches(1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    store.save(run.state, b"{{}}")
    store.wait()
except CheckpointError as error:
    print("refused:", error)
print("newest", newest_whole(store.directory), sorted(p.name for p in store.directory.iterdir()))
"""


def test_a_write_that_fails_leaves_the_checkpoint_before(tmp_path):
    script = FULL.format(tests=str(Path(__file__).parent), run=str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert "refused: cannot save" in done.stdout, done.stderr[-2000:]
    assert "a file became larger than this user's limit" in done.stdout
    assert f"the newest whole checkpoint is {tmp_path / 'run' / '0'}" in done.stdout
    assert "newest 0 ['0']" in done.stdout


def test_a_run_is_neither_overwritten_nor_resumed_without_a_word(tmp_path):
    directory = tmp_path / "run"
    prepare_directory(directory, resume=False, overwrite=False)
    (directory / SETTINGS).write_text("{}")
    (directory / "3").mkdir()
    with pytest.raises(CheckpointError, match="go on with it by --resume, or delete it by --over"):
        prepare_directory(directory, resume=False, overwrite=False)
    prepare_directory(directory, resume=True, overwrite=False)
    assert (directory / "3").exists()
    prepare_directory(directory, resume=False, overwrite=True)
    assert list(directory.iterdir()) == []


def test_what_is_no_run_is_not_deleted(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(CheckpointError, match="holds no training run; name another directory"):
        prepare_directory(tmp_path, resume=False, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_the_toy_has_a_frozen_leaf():
    assert set(params()["second"]) == {"kernel", "bias"}
