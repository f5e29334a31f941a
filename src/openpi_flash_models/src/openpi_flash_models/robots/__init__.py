"""The robots, one file each: which keys their requests have, and what their actions mean."""

from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.robots.action_column import ActionColumn
from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_models.robots.droid import DROID, DROID_JOINT_POSITION
from openpi_flash_models.robots.galaxea import R1_LITE, R1_PRO
from openpi_flash_models.robots.libero import LIBERO
from openpi_flash_models.robots.mobile_base import MOBILE_BASE
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_models.robots.so101 import SO101
from openpi_flash_models.robots.ur5 import UR5, UR5E
from openpi_flash_models.robots.yor import YOR, YOR_NERO

_OURS = (
    ALOHA,
    DROID,
    DROID_JOINT_POSITION,
    LIBERO,
    MOBILE_BASE,
    R1_LITE,
    R1_PRO,
    SIM_ARM,
    SO101,
    UR5,
    UR5E,
    YOR,
    YOR_NERO,
)

ROBOTS = {robot.name: robot for robot in _OURS}


def register(robot: Robot) -> None:
    """Add a robot.

    Raises:
        InferenceConfigError: another one has the name.
    """
    if ROBOTS.setdefault(robot.name, robot) is not robot:
        raise InferenceConfigError(
            f"there is a robot named {robot.name!r} already, choose another name"
        )


def get_robot(name: str) -> Robot:
    """The robot of a name.

    Raises:
        InferenceConfigError: there is none.
    """
    try:
        return ROBOTS[name]
    except KeyError:
        raise InferenceConfigError(
            f"no robot named {name!r}, known: {', '.join(sorted(ROBOTS))}"
        ) from None


__all__ = ["ROBOTS", "ActionColumn", "Robot", "get_robot", "register"]
