"""`scripts/train-demo --quick`: demonstrations, statistics, training, corrections, evaluation."""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from drawing import needs_pictures

from openpi_flash_models.checkpoints.orbax import read_leaves
from openpi_flash_training.train.assemble import assemble
from openpi_flash_training.train.checkpoints import CheckpointStore
from openpi_flash_training.train.loader import stack
from openpi_flash_training.train.mesh import make_mesh
from openpi_flash_training.train.plan import as_batch, make_plan
from openpi_flash_training.train.settings_file import read_settings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1500),
    needs_pictures,
]

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "examples/sim_policy/weights"
STEPS = 100
ROWS = 64


def train_demo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/train-demo", *arguments],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=1450,
        check=False,
    )


def test_a_folder_with_a_run_of_another_kind_is_refused(tmp_path):
    (tmp_path / ".kind").write_text("quick, seed 42\n")
    (tmp_path / ".done-touch").touch()
    refused = train_demo("--seed", "43", tmp_path)
    assert refused.returncode == 2
    assert "holds a run of the kind 'quick, seed 42', this is 'seed 43'" in refused.stderr


def losses_before_and_after(run: Path) -> list[dict[str, float]]:
    """Before the first update and after the last; of the same samples and the same noise."""
    assembled = assemble(read_settings(run / "training.json"))
    plan = make_plan(assembled, make_mesh(1, jax.devices()[:1]))
    places = np.linspace(0, len(assembled.samples) - 1, ROWS).astype(int)
    batch = as_batch(stack([assembled.samples[int(place)] for place in places]))
    store = CheckpointStore(run, keep_every=None, companions={})
    try:
        last, _ = store.restore(STEPS - 1, plan.state)
    finally:
        store.close()
    loss = jax.jit(plan.recipe.loss)
    found = []
    for state in (plan.first_state(), last):
        total, parts = jax.device_get(loss(state.params, batch, jax.random.key(0)))
        found.append({"loss": float(total), **{name: float(part) for name, part in parts.items()}})
    return found


def assert_moved_and_not_drawn_anew(before: Path, after: Path) -> None:
    """Each tensor is a little off what it was; a new one would be as far off as it is large."""
    old, new = read_leaves(before / "params"), read_leaves(after / "params")
    assert old.keys() == new.keys()
    for path, leaf in old.items():
        assert np.isfinite(new[path]).all(), path
        moved = np.linalg.norm(new[path] - leaf) / np.linalg.norm(leaf)
        assert 1e-4 < moved < 0.2, (path, moved)


def test_the_quick_road_ends_with_a_policy_that_touches_what_the_prompt_names(
    tmp_path, monkeypatch
):
    made = train_demo("--quick", tmp_path / "cubes")
    assert made.returncode == 0, made.stdout + made.stderr
    # the weights that it begins with do the task already: what training does is seen apart
    losses = [float(loss) for loss in re.findall(r"^step \d+: loss (\S+)", made.stdout, re.M)]
    assert losses
    assert all(map(math.isfinite, losses))
    assert_moved_and_not_drawn_anew(SHIPPED, tmp_path / "cubes/weights")
    monkeypatch.chdir(ROOT)
    before, after = losses_before_and_after(tmp_path / "cubes/first")
    # the extra losses' heads are new, and learn; of actions the weights knew what there is to know
    assert after["loss"] < 0.8 * before["loss"], (before, after)
    assert after["flow_loss"] < 1.25 * before["flow_loss"], (before, after)
    # what is served does as either prompt says, and says subtasks
    for prompts in ("plain", "swapped"):
        assert re.search(rf"^touch {prompts} .* ([7-9]|10) of 10 ", made.stdout, re.M), made.stdout
    said = re.findall(r"^subtasks agree +(\d+) of (\d+)", made.stdout, re.M)
    assert said
    assert all(int(agree) > int(total) / 2 for agree, total in said), said
    assert (tmp_path / "cubes/corrections-first-touch/meta/info.json").is_file()
    assert (tmp_path / "cubes/weights/params").is_dir()
