"""The columns of a dataset of demonstrations.

    observation.images.<camera>  PNG [S, S, 3]     the picture, letterboxed as a robot sends it
    observation.state            float32 [7]       measured joints, rad, and the gripper, 0 to 1
    action                       float32 [7]       the expert's command: for the next frame
    label.chunks                 float32 [3, H, 7] the expert's chunk for each cube (below)
    label.cube_pixels            float32 [2, 3, 2] x, y of each cube's centre, for each camera
    label.cube_visible           float32 [2, 3]    share of a cube that a camera sees
    label.cube_positions         float32 [3, 3]    centre of each cube in the world, m
    label.stages                 int64 [3]         for each cube, an index of `expert.STAGES`

Row k of a chunk is where the joints should be k frames after its observation, and row 0 where they
are: so a robot plays chunks. Its gripper is 0 or 1, what it is told. `action` is row 1, as in other
datasets. The prompt of a frame names the cube that the expert goes for.
"""

from __future__ import annotations

from openpi_flash_training.dataset.feature import Feature
from sim_robot.robot import CAMERAS, CUBES, JOINTS

STATE, ACTION = "observation.state", "action"
CHUNKS = "label.chunks"
CUBE_PIXELS, CUBE_VISIBLE = "label.cube_pixels", "label.cube_visible"
CUBE_POSITIONS = "label.cube_positions"
STAGES_COLUMN = "label.stages"

ROBOT_TYPE = "sim_arm"


def image_column(camera: str) -> str:
    """The column of a camera's pictures."""
    return f"observation.images.{camera}"


def features(image_size: int, horizon: int) -> dict[str, Feature]:
    """Every column of a dataset.

    Args:
        image_size: edge of a picture, pixels.
        horizon: steps of a chunk.
    """
    joints = len(JOINTS)
    pictures = {
        image_column(camera): Feature("image", (image_size, image_size, 3)) for camera in CAMERAS
    }
    return {
        **pictures,
        STATE: Feature("float32", (joints,), JOINTS),
        ACTION: Feature("float32", (joints,), JOINTS),
        CHUNKS: Feature("float32", (len(CUBES), horizon, joints)),
        CUBE_PIXELS: Feature("float32", (len(CAMERAS), len(CUBES), 2)),
        CUBE_VISIBLE: Feature("float32", (len(CAMERAS), len(CUBES))),
        CUBE_POSITIONS: Feature("float32", (len(CUBES), 3)),
        STAGES_COLUMN: Feature("int64", (len(CUBES),)),
    }
