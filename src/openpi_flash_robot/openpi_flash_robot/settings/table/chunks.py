"""The parameters of what the policy's numbers mean, and how chunks are played."""

from __future__ import annotations

from openpi_flash_robot.settings.action_meaning import KINDS
from openpi_flash_robot.settings.parameter_kinds import Parameter, ParameterKind

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "axes",
        ParameterKind.STRINGS,
        (),
        "Names of what the policy commands, in the order of action_columns: joints, a gripper, the "
        "directions of an end effector or a base. Those in joints are measured. Empty: joints. "
        "Lists with one value per joint have one per axis.",
    ),
    Parameter(
        "action_columns",
        ParameterKind.STRINGS,
        (),
        "The server's names of the action columns, one per axis; the rotation of a controller of "
        "kind pose has as many as controller.<name>.rotation. Empty: the axes' own names.",
    ),
    Parameter(
        "action_kind",
        ParameterKind.STRINGS,
        (),
        "What the policy's numbers mean, for all axes or for each: position and gripper are "
        "absolute; velocity is of a joint; eef_pose is where an end effector should be; eef_delta "
        "is its way in one step; "
        "base_twist is the velocity of a base. What the server says must be the same. Empty: "
        "positions and grippers by the server's word; a server that says nothing, as openpi's, is "
        "refused.",
        choices=("", *KINDS),
        may_be_one=True,
    ),
    Parameter(
        "action_scale",
        ParameterKind.DOUBLES,
        (1.0,),
        "What 1 of the policy is in rad or m (per second for velocities, per step for eef_delta): "
        "0.01745329 for degrees, 0.05 for LIBERO's metres. One value for all, or one per axis.",
    ),
    Parameter(
        "action_rate_hz",
        ParameterKind.DOUBLE,
        0.0,
        "Steps per second of a chunk; 0 takes the server's (openpi's own server does not send it).",
        unit="Hz",
        low=0.0,
        high=1000.0,
    ),
    Parameter(
        "execution_horizon",
        ParameterKind.INTEGER,
        10,
        "Steps after an observation at which the next one is taken at the latest; it is taken "
        "sooner where its answer would come after the running chunk's end, by the slowest of the "
        "last 100 answers. 0 takes it as soon as the last answer is in. With chunk_method "
        "open_loop: the steps of a chunk that are played before the next one begins; 0 plays all "
        "that max_chunk_age allows.",
        unit="steps",
        low=0,
        high=10000,
        dynamic=True,
    ),
    Parameter(
        "first_actions",
        ParameterKind.INTEGER,
        0,
        "Steps of a chunk to ask for ahead of the rest, if the server's policy knows them early; 0 "
        "asks for none. They are played if the robot holds, or if the running chunk ends before "
        "them, until the whole chunk comes. Choose more than the robot plays meanwhile: after the "
        "last of them it stops, and a chunk that comes later is not played.",
        unit="steps",
        low=0,
        high=10000,
        dynamic=True,
    ),
    Parameter(
        "max_chunk_age",
        ParameterKind.DOUBLE,
        0.0,
        "Oldest observation whose chunk may be played; then the robot holds. "
        "0 is half of the chunk's length.",
        unit="s",
        low=0.0,
        high=60.0,
        dynamic=True,
    ),
    Parameter(
        "chunk_method",
        ParameterKind.STRING,
        "latest",
        "How a chunk goes on from those before. latest: the newest one. latest_only: the same "
        "without the fade of blend_time. "
        "open_loop: the newest one, once execution_horizon steps of the running one are "
        "played. temporal_ensemble: the mean of all recent ones. "
        "weighted_average, average, conservative: 0.3, 0.5 or 0.7 of the old one and the rest of "
        "the new one, as LeRobot's asynchronous inference. "
        "rtc: the server makes it continue the running one, where it can; else as latest. "
        "rtc_prefix: the same with a checkpoint that was trained for it, else as rtc. "
        "docs/chunk-methods.md compares them.",
        choices=(
            "latest",
            "open_loop",
            "temporal_ensemble",
            "latest_only",
            "weighted_average",
            "average",
            "conservative",
            "rtc",
            "rtc_prefix",
        ),
        dynamic=True,
    ),
    Parameter(
        "ensemble_decay",
        ParameterKind.DOUBLE,
        0.01,
        "Of temporal_ensemble: a chunk weighs exp(-ensemble_decay) times as much as the one before "
        "it. 0 is the plain mean; negative trusts the newest most.",
        low=-10.0,
        high=10.0,
        dynamic=True,
    ),
    Parameter(
        "gripper_joints",
        ParameterKind.STRINGS,
        (),
        "Axes that are grippers; each may have the entries gripper.<name>.*. They are neither "
        "faded nor averaged, and a hold keeps their command.",
    ),
    Parameter(
        "gripper.<name>.closed",
        ParameterKind.DOUBLE,
        0.0,
        "Where the axis is when the hand is closed. closed and open equal: the policy's numbers "
        "are the axis's own.",
        unit="rad or m",
        each_of="gripper_joints",
    ),
    Parameter(
        "gripper.<name>.open",
        ParameterKind.DOUBLE,
        0.0,
        "Where the axis is when the hand is open.",
        unit="rad or m",
        each_of="gripper_joints",
    ),
    Parameter(
        "gripper.<name>.policy_closed",
        ParameterKind.DOUBLE,
        0.0,
        "The policy's number for the closed hand, for a server that does not say it.",
        each_of="gripper_joints",
    ),
    Parameter(
        "gripper.<name>.policy_open",
        ParameterKind.DOUBLE,
        0.0,
        "The policy's number for the open hand, for a server that does not say it.",
        each_of="gripper_joints",
    ),
    Parameter(
        "gripper.<name>.threshold",
        ParameterKind.DOUBLE,
        0.0,
        "Share of the way from closed to open from which on the hand is opened wholly, and else "
        "closed. 0: it goes in between as well.",
        low=0.0,
        high=0.99,
        each_of="gripper_joints",
    ),
    Parameter(
        "blend_time",
        ParameterKind.DOUBLE,
        0.1,
        "How long the running plan, or rest, is faded into a new chunk, whatever chunk_method is, "
        "but latest_only.",
        unit="s",
        low=0.0,
        high=10.0,
        dynamic=True,
    ),
    Parameter(
        "max_start_delta",
        ParameterKind.DOUBLES,
        (0.3,),
        "When the robot starts from rest, a chunk whose first step is farther from the measured "
        "position is refused. One value for all joints, or one per joint.",
        unit="rad or m",
        low=0.0,
        dynamic=True,
    ),
    Parameter(
        "max_velocity",
        ParameterKind.DOUBLES,
        (0.5,),
        "Fastest commanded motion. Where a chunk asks for more, all joints take longer on the same "
        "path. One value for all joints, or one per joint.",
        unit="rad/s or m/s",
        low=0.001,
        dynamic=True,
    ),
    Parameter(
        "max_acceleration",
        ParameterKind.DOUBLES,
        (5.0,),
        "Hardest change of the commanded velocity, braking included. "
        "One value for all joints, or one per joint.",
        unit="rad/s^2 or m/s^2",
        low=0.01,
        dynamic=True,
    ),
    Parameter(
        "max_jerk",
        ParameterKind.DOUBLES,
        (0.0,),
        "Hardest change of the commanded acceleration; 0: no limit. The motion is averaged over "
        "2 max_acceleration / max_jerk (the longest of the joints'), and a chunk takes over, or "
        "braking begins, half of that later; more than command_window is refused. Only the ramp "
        "at a window's end, which is played if this process is gone, is not limited. "
        "One value for all joints, or one per joint.",
        unit="rad/s^3 or m/s^3",
        low=0.0,
        dynamic=True,
    ),
    Parameter(
        "robot_description_topic",
        ParameterKind.STRING,
        "/robot_description",
        "Topic with the robot's URDF, std_msgs/String, as robot_state_publisher publishes it. Its "
        "position and velocity limits bound those of the parameters, and take their place where "
        "none are set. Empty: none.",
    ),
    Parameter(
        "joint_limits_file",
        ParameterKind.STRING,
        "",
        "A joint_limits.yaml as MoveIt and ros2_control have it (joint_limits.<joint>."
        "has_velocity_limits, max_velocity, ...; also of position, acceleration, deceleration and "
        "jerk), with the names of axes. The tightest limit counts: of this file, of the robot's "
        "description, and of the parameters. Read when the node is configured. Empty: none.",
    ),
    Parameter(
        "position_lower",
        ParameterKind.DOUBLES,
        (float("-inf"),),
        "Lowest commanded position. Without it, here or in the robot's description, only dry_run "
        "is possible. "
        "One value for all joints, or one per joint.",
        unit="rad or m",
        may_be_infinite=True,
        dynamic=True,
    ),
    Parameter(
        "position_upper",
        ParameterKind.DOUBLES,
        (float("inf"),),
        "Highest commanded position. Without it, here or in the robot's description, only dry_run "
        "is possible. "
        "One value for all joints, or one per joint.",
        unit="rad or m",
        may_be_infinite=True,
        dynamic=True,
    ),
)
