"""The node of the simulated controller: its name, its topics and its parameters, as ros2_control's.

The parameters say how the trajectory follower behaves. They are read-only, as the controller's own
that matter here; `--ros-args -p arm_controller:interpolate_from_desired_state:=false` makes them
lie, to see what other nodes do about it.
"""

from __future__ import annotations

from collections.abc import Callable

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from trajectory_msgs.msg import JointTrajectory

from sim_robot.robot import CONTROLLER, JOINTS, TRAJECTORY_TOPIC

PARAMETERS = {
    "joints": list(JOINTS),
    "allow_partial_joints_goal": False,
    "interpolate_from_desired_state": True,
    "interpolation_method": "splines",
    "allow_nonzero_velocity_at_trajectory_end": False,
    "cmd_timeout": 0.0,
}


class ControllerNode(Node):
    """Hears trajectories, and answers what a joint trajectory controller is asked.

    Args:
      on_trajectory: what takes a trajectory.
      context: of ROS; None is the process's own.
      parameters: others than the true ones.
    """

    def __init__(
        self,
        on_trajectory: Callable[[JointTrajectory], None],
        *,
        context: Context | None = None,
        parameters: dict[str, object] | None = None,
    ) -> None:
        super().__init__(
            CONTROLLER,
            context=context,
            parameter_overrides=[
                Parameter(name, value=value) for name, value in (parameters or {}).items()
            ],
        )
        for name, value in PARAMETERS.items():
            self.declare_parameter(name, value, ParameterDescriptor(read_only=True))
        self.create_subscription(JointTrajectory, TRAJECTORY_TOPIC, on_trajectory, 10)
