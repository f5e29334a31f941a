"""What openpi computed in training: its models, its batches and the numbers that came out."""

import functools
from pathlib import Path

import ml_dtypes
import numpy as np

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.checkpoints.lora import merge_lora
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import check_tree
from openpi_flash_training.train.batch import Batch, Tokens

DATA = Path(__file__).parent / "data/openpi_training"
MODELS_DATA = Path(__file__).parents[2] / "openpi_flash_models/tests/data"
FAST_CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
# the true gradient is zero, for a softmax ignores it: what openpi stored is rounding
ROUNDING_ONLY = "MultiHeadDotProductAttention_0/key/bias"


@functools.cache
def recorded(name):
    """Arrays of a file of training."""
    return dict(np.load(DATA / f"{name}.npz"))


@functools.cache
def tiny_tree(name):
    """The parameters of a small model (pi05, pi0, pi0_fast, lora), and its shape."""
    leaves = orbax.read_leaves(MODELS_DATA / "tiny_pi05/params")
    if name != "pi05":
        arrays = np.load(MODELS_DATA / f"tiny_{name}_leaves.npz").items()
        leaves = leaves | {tuple(path.split("/")): leaf for path, leaf in arrays}
    if name in ("pi0", "pi0_fast"):
        leaves = {path: leaf for path, leaf in leaves.items() if is_of(name, path)}
    plain = merge_lora(leaves, name) if name == "lora" else leaves
    return nest(leaves)["params"], check_tree(plain, name)


def is_of(name, path):
    if name == "pi0":
        return not path[1].startswith("time_mlp") and ("img" in path or "Dense_0" not in path)
    of_expert = any(part.endswith("_1") for part in path if part != "LayerNorm_1")
    return path[1] == "PaliGemma" and ("img" in path or not of_expert)


@functools.cache
def observation(name, dtype=np.float32):
    """The batch of `<name>/inputs.npz` without actions."""
    arrays = dict(np.load(MODELS_DATA / f"tiny_{name}_inputs.npz"))
    cameras = FAST_CAMERAS if name == "pi0_fast" else CAMERAS
    generator = np.random.default_rng(11)  # openpi's pictures were drawn from it
    pictures = [generator.uniform(-1, 1, (2, 224, 224, 3)).astype(dtype) for _ in cameras]
    return Batch(
        images=dict(zip(cameras, pictures, strict=True)),
        image_masks={camera: arrays[f"image_mask/{camera}"] for camera in cameras},
        state=arrays["state"],
        actions=None,
        prompt=Tokens(arrays["tokenized_prompt"], arrays["tokenized_prompt_mask"]),
    )


def flat(tree):
    """Leaves by their paths, joined by slashes as openpi's names are."""
    found = {}

    def visit(branch, path):
        if isinstance(branch, dict):
            for key, part in branch.items():
                visit(part, (*path, key))
        elif branch is not None:
            found["/".join(path)] = np.asarray(branch)

    visit(tree, ())
    return found


def norms(tree, names):
    """L2 norm of every leaf, in float64 and in the order of the names."""
    leaves = flat(tree)
    return np.array([np.linalg.norm(leaves[name].astype(np.float64)) for name in names])


def counted(names):
    """Which leaves have gradients that mean something."""
    return np.array([ROUNDING_ONLY not in name for name in names])


def leaves_of(arrays, prefix):
    """Arrays whose names begin with a prefix, by the rest of the name."""
    return {
        name.removeprefix(f"{prefix}/"): leaf
        for name, leaf in arrays.items()
        if name.startswith(f"{prefix}/")
    }


def as_bfloat16(leaf):
    return leaf.astype(ml_dtypes.bfloat16)
