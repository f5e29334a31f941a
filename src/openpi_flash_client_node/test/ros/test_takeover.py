"""A person takes the robot over real topics, and gives it back."""

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from openpi_flash_msgs.msg import PolicyStatus


def test_a_leader_arm_takes_the_robot_and_gives_it_back(ros, robot, server, make_node):
    switch = robot.node.create_publisher(Bool, "/pedal", 1)
    leader = robot.node.create_publisher(JointState, "/leader/joint_states", 1)
    held = {"taken": False, "at": [0.1, 0.2, 0.5]}

    def speak():
        switch.publish(Bool(data=held["taken"]))
        leader.publish(JointState(name=["l_grip", "l_shoulder"], position=held["at"][::-2]))

    robot.node.create_timer(0.03, speak)
    make_node(
        takeover_topic="/pedal",
        teleop_topic="/leader/joint_states",
        teleop_joints=["l_shoulder", "l_elbow", "l_grip"],
        max_tracking_error=[1.0, 1.0, 0.0],
    )
    robot.until_state(PolicyStatus.RUNNING)
    assert not robot.status.intervention
    held["taken"] = True
    status = robot.until_state(PolicyStatus.PAUSED, "a person commands the robot")
    assert (status.cause, status.intervention) == (PolicyStatus.CAUSE_TAKEOVER, True)
    asked = len(server.requests)
    held["at"] = [0.3, 0.2, 0.7]
    heard = robot.trajectories
    ros.until(
        lambda: (
            np.isclose(heard["arm"][-1].points[-1].positions[0], 0.3, atol=1e-3)
            and np.isclose(heard["hand"][-1].points[-1].positions[0], 0.7, atol=1e-3)
        ),
        "the robot where the leader is",
    )
    assert heard["arm"][-1].points[-1].positions[1] == pytest.approx(0.2, abs=1e-3)
    assert len(server.requests) - asked <= 1
    robot.measured = [0.3, 0.2, 0.7]
    held["taken"] = False
    robot.until_state(PolicyStatus.RUNNING)
    assert not robot.status.intervention
    assert server.resets == 1
