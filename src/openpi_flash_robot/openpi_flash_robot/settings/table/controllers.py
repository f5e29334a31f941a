"""The parameters of what is commanded, and how."""

from __future__ import annotations

from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.parameter_kinds import Parameter, ParameterKind
from openpi_flash_robot.settings.state_inputs import Rotation

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "fault_after",
        ParameterKind.DOUBLE,
        10.0,
        "A robot that has moved, and then stood for so long because no chunk came that it could "
        "play, does not go on by itself: look at it, then call ~/reset. 0: it always does.",
        unit="s",
        low=0.0,
        high=3600.0,
        dynamic=True,
    ),
    Parameter(
        "controllers",
        ParameterKind.STRINGS,
        (),
        "Names of the controllers; each has the entries controller.<name>.*.",
    ),
    Parameter(
        "controller.<name>.kind",
        ParameterKind.STRING,
        "joint_trajectory",
        "What it takes: joint_trajectory (trajectory_msgs/JointTrajectory); position or velocity "
        "(std_msgs/Float64MultiArray, as forward_command_controller); joint_state (positions in "
        "sensor_msgs/JointState, as Galaxea's joint tracker and Isaac Sim); twist "
        "(geometry_msgs/TwistStamped with six axes, as MoveIt Servo); pose "
        "(geometry_msgs/PoseStamped, as MoveIt Servo and CRISP: the axes are x, y, z and the "
        "rotation vector, next to each other in axes); base (TwistStamped or Twist "
        "with the axes x and rotation, or x, y and rotation); gripper (an action of control_msgs). "
        "All but the first and the last are sent by a process of its own, which brakes if the node "
        "is gone.",
        choices=tuple(kind.value for kind in ControllerKind),
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.topic",
        ParameterKind.STRING,
        "",
        "Topic of the controller, or name of a gripper's action. Empty: /<name>/joint_trajectory, "
        "/<name>/commands, /<name>/joint_command, /servo_node/delta_twist_cmds, "
        "/servo_node/pose_target_cmds, /cmd_vel or /<name>/gripper_cmd.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.joints",
        ParameterKind.STRINGS,
        (),
        "The controller's joints or axes, all of them, in its order. Empty: every axis.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.joint_names",
        ParameterKind.STRINGS,
        (),
        "What the controller itself calls these joints, in the same order, where it has other "
        "names for them. Empty: the same names.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.frame",
        ParameterKind.STRING,
        "",
        "Of a twist or a pose: the frame in which the policy's directions or poses count, as ROS "
        "names it.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.rotation",
        ParameterKind.STRING,
        "rotvec",
        "Of a pose: how the policy writes its rotation, in as many of action_columns: rpy (rad, "
        "about fixed axes), rotvec (axis times angle), quat_xyzw, quat_wxyz, or rot6d (two columns "
        "of the matrix). What the server says must be the same.",
        choices=tuple(rotation.value for rotation in Rotation),
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.pose_topic",
        ParameterKind.STRING,
        "",
        "Of a pose: topic of the measured one, geometry_msgs/PoseStamped in frame.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.child_frame",
        ParameterKind.STRING,
        "",
        "Of a pose whose measured one is not on a topic: the end effector's frame, whose pose in "
        "frame is read from /tf and /tf_static.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.stamped",
        ParameterKind.BOOL,
        True,
        "Of a base: true sends TwistStamped (ros2_control from Jazzy on), false Twist.",
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.action",
        ParameterKind.STRING,
        "parallel_gripper_command",
        "Of a gripper: parallel_gripper_command (Jazzy and later) or gripper_command (Humble).",
        choices=("parallel_gripper_command", "gripper_command"),
        each_of="controllers",
    ),
    Parameter(
        "controller.<name>.max_effort",
        ParameterKind.DOUBLE,
        0.0,
        "Of a gripper: the greatest effort it may close with. 0 leaves it to the gripper.",
        unit="N or N m",
        low=0.0,
        high=10000.0,
        each_of="controllers",
    ),
    Parameter(
        "unmoved_joints",
        ParameterKind.STRINGS,
        (),
        "Axes that no controller moves on purpose; the robot does not move while another axis has "
        "none. What the policy says of these is left out: they need no limits.",
    ),
    Parameter(
        "command_window",
        ParameterKind.DOUBLE,
        0.3,
        "How much of the motion a controller is sent at a time, in every control period again; "
        "each window ends in braking, so that the arm stands if this process is gone. With 0.3 s "
        "an arm at 0.5 rad/s goes on for 0.1 rad.",
        unit="s",
        low=0.1,
        high=2.0,
    ),
    Parameter(
        "min_lead_time",
        ParameterKind.DOUBLE,
        0.04,
        "Longest time that a command takes to a controller: so much later a chunk takes over or "
        "braking begins, and so much longer a window goes on. Measure it for controllers behind a "
        "network.",
        unit="s",
        low=0.0,
        high=0.5,
    ),
    Parameter(
        "trajectory_stamp",
        ParameterKind.STRING,
        "absolute",
        "What the points of a trajectory count from: absolute is the ROS clock, which a controller "
        "on another computer must share (chrony, PTP); zero is reception, where every delay of the "
        "delivery moves the arm late and unevenly.",
        choices=("absolute", "zero"),
    ),
)
