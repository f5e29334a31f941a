"""command_topic.py: one listener and one commander for each controller."""

import pytest

from openpi_flash_robot.bridge.command_topic import CommandTopic, objection
from openpi_flash_robot.hold import HoldKind

GOOD = CommandTopic("arm", "/arm/joint_trajectory", 1)


def test_a_controller_that_listens_to_this_node_alone_is_commanded():
    assert objection([GOOD]) is None
    assert objection([]) is None


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (
            CommandTopic("hand", "/hand/joint_trajectory", 0),
            "nobody subscribes to /hand/joint_trajectory: controller hand is not running; see "
            "`ros2 control list_controllers`",
        ),
        (
            CommandTopic("hand", "/hand/joint_trajectory", 1, ("/moveit", "/openpi/client_node")),
            "/moveit, /openpi/client_node also publishes to /hand/joint_trajectory; only one node "
            "may command controller hand, stop the other one",
        ),
    ],
)
def test_a_silent_or_shared_topic_is_named(topic, message):
    problem = objection([GOOD, topic])
    assert (problem.kind, problem.message) == (HoldKind.COMMANDER, message)
