"""The smallest model and a batch for it, with everything that a loss can read."""

import numpy as np
from micro import micro_shape, random_leaves

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_training.train.batch import Batch, Tokens

CAMERAS = ("scene", "wrist")
SHAPE = micro_shape("pi05", patch=14, image_size=56)  # 16 tokens an image
HORIZON = 5


def tiny_params(shape=SHAPE):
    """Random weights, which are made without compiling anything."""
    return nest(random_leaves(shape))["params"]


def tiny_batch(rows=2, seed=0):
    """Two cameras, of which the second row lacks one; prompts and subtasks of other lengths."""
    generator = np.random.default_rng(seed)
    place, ends = np.arange(12)[None], generator.integers(6, 12, (rows, 1))
    said = (place >= 4) & (place < ends)  # the prompt of the planner has four tokens

    def ids(length):
        return generator.integers(3, 60, (rows, length)).astype(np.int32)

    return Batch(
        images={
            camera: generator.integers(0, 256, (rows, 56, 56, 3)).astype(np.uint8)
            for camera in CAMERAS
        },
        image_masks={
            "scene": np.ones(rows, bool),
            "wrist": np.arange(rows) != 1,
        },
        state=generator.normal(size=(rows, 4)).astype(np.float32),
        actions=generator.normal(size=(rows, HORIZON, 4)).astype(np.float32),
        prompt=Tokens(ids(6), np.arange(6)[None] < generator.integers(3, 7, (rows, 1))),
        subtask=Tokens(ids(12), place < ends, said, said),
        labels={
            "points": {
                camera: generator.uniform(0.1, 0.9, (rows, 2, 2)).astype(np.float32)
                for camera in CAMERAS
            },
            "position": generator.normal(size=(rows, 3)).astype(np.float32),
        },
    )
