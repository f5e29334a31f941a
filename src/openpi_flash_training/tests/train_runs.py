"""A small dataset and a run over it, for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.checkpoints.orbax import write_leaves
from openpi_flash_models.demo.tokenizer import tokenizer_model
from openpi_flash_models.model.shape import expected_shapes
from openpi_flash_models.text.tokenizer import FILE_NAME, PaligemmaTokenizer
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.train.settings_file import parse_settings
from openpi_flash_training.train.sizes import new_shape

CAMERAS = ("observation.images.scene", "observation.images.wrist")
TASKS = ("touch the red cube", "touch the blue cube")
LENGTHS = (9, 7, 8)


def write_dataset(folder: Path, lengths=LENGTHS, *, side=32, subtasks=False) -> Path:
    """Episodes of the simulated arm, whose action is the next state; with statistics."""
    features = {camera: Feature("image", (side, side, 3)) for camera in CAMERAS}
    features |= {name: Feature("float32", (7,)) for name in ("observation.state", "action")}
    if subtasks:
        features["subtask"] = Feature("string", (1,))
    random = np.random.default_rng(0)
    rows = {"state": [], "actions": []}
    with DatasetWriter(folder, fps=25, features=features) as writer:
        for episode, length in enumerate(lengths):
            path = np.cumsum(random.normal(0, 0.05, (length + 1, 7)), axis=0).astype(np.float32)
            images = {
                camera: random.integers(0, 256, (length, side, side, 3), np.uint8)
                for camera in CAMERAS
            }
            writer.add_episode(
                TASKS[episode % 2],
                {"observation.state": path[:-1], "action": path[1:]},
                images,
                {"subtask": ["reach the cube"] * length} if subtasks else None,
            )
            rows["state"].append(path[:-1])
            rows["actions"].append(path[1:])
    write_statistics(folder, {name: np.concatenate(parts) for name, parts in rows.items()})
    return folder


def write_statistics(folder: Path, rows: dict[str, np.ndarray], asset_id="sim_arm") -> Path:
    """openpi's file, in the place where training looks for a dataset's."""
    stats = {
        name: {
            "mean": values.mean(0).tolist(),
            "std": values.std(0).tolist(),
            "q01": np.quantile(values, 0.01, axis=0).tolist(),
            "q99": np.quantile(values, 0.99, axis=0).tolist(),
        }
        for name, values in rows.items()
    }
    file = folder / "assets" / asset_id / "norm_stats.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"norm_stats": stats}))
    return file


def write_weights(folder: Path) -> Path:
    """A tiny pi0.5 with random weights and the demo's tokenizer.

    Training can draw weights itself; compiling that takes longer than all else here.
    """
    words = tokenizer_model()
    (folder.parent / "words.model").write_bytes(words)
    pieces = PaligemmaTokenizer(folder.parent / "words.model").vocabulary_size
    shape = new_shape("tiny", "pi05", action_dim=32, vocabulary=pieces)
    random = np.random.default_rng(0)
    leaves = {
        tuple(name.split("/")): random.normal(0, 0.1, size).astype(np.float32)
        for name, size in expected_shapes(shape).items()
    }
    write_leaves(folder / "params", leaves)
    (folder / FILE_NAME).write_bytes(words)
    return folder


def small_tree(root: Path, **sections):
    """Settings, as JSON has them, of a run of a few seconds; below ``root`` is everything it needs.

    ``run={"steps": 3}`` changes fields.
    """
    dataset, weights = root / "dataset", root / "weights"
    if not dataset.exists():
        write_dataset(dataset)
    if not weights.exists():
        write_weights(weights)
    tree = {
        "model": {"config": "pi05_sim_arm", "weights": str(weights)},
        "data": {"dataset": str(dataset), "threads": 1},
        "loss": {"augment": None},
        "optimizer": {"peak_rate": 1e-3, "warmup_steps": 1, "decay_steps": 8},
        "run": {"output": str(root / "run"), "steps": 4, "batch_size": 4, "log_every": 1},
    }
    for section, fields in sections.items():
        tree[section] = {**tree[section], **fields}
    return tree


def small_settings(root: Path, **sections):
    """As :func:`small_tree`, parsed."""
    return parse_settings(small_tree(root, **sections), "test")


def quick_loss(params, batch, key, *, settings):
    """A loss of the real one's signature that compiles in a moment; it depends on every input."""
    noise = jax.random.normal(key, batch.actions.shape)
    seen = sum(batch.images[name].mean((1, 2, 3)) for name in settings.cameras) / 255
    read = (batch.prompt.ids * batch.prompt.mask).sum(-1) * 1e-3
    given = noise + (seen + read)[:, None, None]
    first, last = params["action_in_proj"], params["action_out_proj"]
    hidden = jnp.tanh(given @ first["kernel"] + first["bias"])
    made = hidden @ last["kernel"] + last["bias"]
    error = jnp.mean((made - (noise - batch.actions)) ** 2)
    return error, {"flow_loss": error}


def losses(run: Path) -> dict[int, float]:
    """The logged loss of each step."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return {(entry := json.loads(line))["step"]: entry["loss"] for line in lines}


class Silent:
    """Listens to a run and remembers what it was told."""

    def __init__(self):
        self.first = None
        self.steps = []
        self.saved = []
        self.metrics = {}

    def started(self, first, plan):
        self.first = first

    def stepped(self, step):
        self.steps.append(step)

    def logged(self, step, metrics):
        self.metrics[step] = metrics

    def saving(self, step, place):
        self.saved.append(step)
