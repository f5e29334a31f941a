"""The node's parameters: name, type, default, unit, range and text, once.

The descriptors that `ros2 param describe` shows, the checks, `settings.Settings` and the page
`docs/robot_parameters.md` all come from `PARAMETERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from openpi_flash_robot.settings.action_meaning import KINDS
from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.parameter_kinds import (
    Parameter,
    ParameterError,
    ParameterKind,
    ParameterValue,
)
from openpi_flash_robot.settings.state_inputs import Rotation, StateKind


def expand(given: Mapping[str, Any]) -> dict[str, Parameter]:
    """Every parameter that this node has, by full name, with the maps written out.

    Args:
        given: what the user set; decides which cameras and controllers there are.

    Raises:
        ParameterError: a list that names entries is not a list of names.
    """
    expanded: dict[str, Parameter] = {}
    for parameter in PARAMETERS:
        if not parameter.each_of:
            expanded[parameter.name] = parameter
            continue
        owner = _BY_NAME[parameter.each_of]
        entries = owner.parse(given.get(owner.name, owner.default))
        assert isinstance(entries, tuple)
        for entry in entries:
            expanded[parameter.named(str(entry))] = parameter
    return expanded


def parse_values(given: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Check what the user set and fill in the defaults.

    Raises:
        ParameterError: names every parameter that is unknown, or the first that is wrong.
    """
    expanded = expand(given)
    unknown = sorted(set(given) - set(expanded))
    if unknown:
        raise ParameterError(
            f"unknown parameter{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
            f"{_closest(unknown[0], list(expanded))}"
        )
    return {
        name: parameter.parse(given[name], name) if name in given else parameter.default
        for name, parameter in expanded.items()
    }


def _closest(name: str, known: list[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; the closest known one is {matches[0]}" if matches else ""


PARAMETERS: tuple[Parameter, ...] = (
    # --- the server ---
    Parameter(
        "server",
        ParameterKind.STRING,
        "127.0.0.1",
        "Name or address of the policy server, with or without a port (10.0.0.5:5555, [::1]:5555); "
        "for quic also unix:/path, for websocket also ws://… and wss://….",
    ),
    Parameter(
        "port",
        ParameterKind.INTEGER,
        0,
        "Port of the policy server; 0 is the transport's own: 5555 for quic, 8000 for websocket.",
        low=0,
        high=65535,
    ),
    Parameter(
        "transport",
        ParameterKind.STRING,
        "quic",
        "How to reach the server. websocket also reaches openpi's own server.",
        choices=("quic", "websocket"),
    ),
    Parameter(
        "api_key_file",
        ParameterKind.STRING,
        "",
        "File that holds the API key, for a server with api_keys. Only its owner should be able to "
        "read it (chmod 600). Overrides the environment variable OPENPI_FLASH_API_KEY, which "
        "overrides api_key.",
    ),
    Parameter(
        "api_key",
        ParameterKind.STRING,
        "",
        "The API key itself. Prefer api_key_file or OPENPI_FLASH_API_KEY: other users of the "
        "computer can read command lines. Reads back as `set` or `not set`.",
        is_secret=True,
    ),
    Parameter(
        "server_fingerprint",
        ParameterKind.STRING,
        "",
        "SHA-256 of the server's certificate in hex, as the server prints it at start (quic only). "
        "Without server_fingerprint, ca_file or known_servers the server is not authenticated.",
    ),
    Parameter(
        "ca_file",
        ParameterKind.STRING,
        "",
        "PEM file of certificate authorities; one of them must have signed the server's "
        "certificate for the name in server (quic only).",
    ),
    Parameter(
        "known_servers",
        ParameterKind.STRING,
        "",
        "File of known servers, such as ~/.config/openpi-flash/known_servers (quic only): the "
        "first connection to a server stores its certificate there; later, a different "
        "certificate is refused.",
    ),
    Parameter(
        "connect_timeout",
        ParameterKind.DOUBLE,
        5.0,
        "How long one attempt to connect may take.",
        unit="s",
        low=0.1,
        high=60.0,
    ),
    Parameter(
        "reconnect_delay_max",
        ParameterKind.DOUBLE,
        2.0,
        "Longest pause between attempts to connect; the first pause is 0.1 s and doubles.",
        unit="s",
        low=0.1,
        high=60.0,
    ),
    Parameter(
        "request_timeout",
        ParameterKind.DOUBLE,
        1.0,
        "A request without an answer after this time is given up, and the robot holds.",
        unit="s",
        low=0.01,
        high=60.0,
        dynamic=True,
    ),
    # --- the task ---
    Parameter(
        "prompt",
        ParameterKind.STRING,
        "",
        "The instruction at start; change it with the service ~/set_prompt. "
        "Empty leaves it to the server's default.",
    ),
    Parameter(
        "dry_run",
        ParameterKind.BOOL,
        True,
        "True publishes chunks and status but sends nothing to a controller. "
        "False moves the robot.",
    ),
    Parameter(
        "autostart",
        ParameterKind.BOOL,
        True,
        "Configure and activate at start; false leaves that to a lifecycle manager.",
    ),
    Parameter(
        "wait_for_goal",
        ParameterKind.BOOL,
        False,
        "After activation, wait for a goal (~/run_policy or ~/start) before moving; false begins "
        "at once, with the instruction.",
    ),
    Parameter(
        "prompt_topic",
        ParameterKind.STRING,
        "prompt",
        "Topic with std_msgs/String that changes the instruction; empty: none.",
    ),
    Parameter(
        "publish_subtask_text",
        ParameterKind.BOOL,
        True,
        "Mirror the subtask on subtask_text as std_msgs/String.",
    ),
    # --- observations ---
    Parameter(
        "cameras",
        ParameterKind.STRINGS,
        (),
        "Names of the cameras; each has the entries camera.<name>.*.",
    ),
    Parameter(
        "camera.<name>.topic",
        ParameterKind.STRING,
        "",
        "Topic of this camera, sensor_msgs/Image or sensor_msgs/CompressedImage.",
        each_of="cameras",
    ),
    Parameter(
        "camera.<name>.image_transport",
        ParameterKind.STRING,
        "auto",
        "What is on the topic: raw is sensor_msgs/Image, compressed is sensor_msgs/CompressedImage "
        "with JPEG or PNG, auto is compressed for a topic that ends in /compressed.",
        choices=("auto", "raw", "compressed"),
        each_of="cameras",
    ),
    Parameter(
        "camera.<name>.key",
        ParameterKind.STRING,
        "",
        "Where the image goes in the request; a dot steps into a nested map (images.cam_high).",
        each_of="cameras",
    ),
    Parameter(
        "camera.<name>.stamp",
        ParameterKind.STRING,
        "header",
        "When an image was taken: header is its header.stamp, arrival the moment at which it "
        "arrives here, for a driver that sets no stamp. arrival costs accuracy: the image is older "
        "than the node knows by exposure and delivery (often 30 to 100 ms), so that chunks are "
        "played that much late, and ages, max_camera_skew and delays on the way are not seen.",
        choices=("header", "arrival"),
        each_of="cameras",
    ),
    Parameter(
        "image_height",
        ParameterKind.INTEGER,
        224,
        "Height that images are resized to if the server's metadata has no size; 0 leaves them.",
        unit="pixels",
        low=0,
        high=4096,
    ),
    Parameter(
        "image_width",
        ParameterKind.INTEGER,
        224,
        "Width that images are resized to if the server's metadata has no size; 0 leaves them.",
        unit="pixels",
        low=0,
        high=4096,
    ),
    Parameter(
        "image_layout",
        ParameterKind.STRING,
        "hwc",
        "Order of the image axes if the server's metadata has no shape.",
        choices=("hwc", "chw"),
    ),
    Parameter(
        "image_encoding",
        ParameterKind.STRING,
        "raw",
        "How images go to the server. raw is exact, 150 kB for each camera of 224x224; jpeg is a "
        "tenth to a fifth of that, for links below 1 Gb/s. A server that cannot decode jpeg gets "
        "raw.",
        choices=("raw", "jpeg"),
    ),
    Parameter(
        "jpeg_quality",
        ParameterKind.INTEGER,
        92,
        "Quality of jpeg, much as libjpeg's: 92 keeps an image of 224x224 in about 17 kB.",
        low=1,
        high=100,
    ),
    Parameter(
        "joint_state_topics",
        ParameterKind.STRINGS,
        ("/joint_states",),
        "Topics with sensor_msgs/JointState; joints are merged by name.",
    ),
    Parameter(
        "joint_state_stamp",
        ParameterKind.STRING,
        "header",
        "When joint positions were measured: header is their header.stamp, arrival the moment at "
        "which they arrive here, for a driver that sets no stamp. With arrival a delay on the way "
        "is taken for an arm that lags: raise tracking_delay by it.",
        choices=("header", "arrival"),
    ),
    Parameter(
        "joint_state_prefixes",
        ParameterKind.STRINGS,
        (),
        "What is put before the names of each topic's joints, one for each of joint_state_topics: "
        "for two arms whose drivers name their joints alike. Joints of a message without names are "
        "named by the prefix and their place: 1, 2, 3. Empty: nothing.",
    ),
    Parameter(
        "joints",
        ParameterKind.STRINGS,
        (),
        "Names of the joints whose states are read; without states and axes they are the policy's "
        "state and actions, in its order.",
    ),
    Parameter(
        "state_key",
        ParameterKind.STRING,
        "observation/state",
        "Where the joint positions go in the request; a dot steps into a nested map.",
    ),
    Parameter(
        "states",
        ParameterKind.STRINGS,
        (),
        "Names of the parts of the policy's state; each has the entries state.<name>.*. Parts with "
        "one key stand there one after the other. Empty: the positions of joints, at state_key.",
    ),
    Parameter(
        "state.<name>.kind",
        ParameterKind.STRING,
        "joint_positions",
        "What it is: joint_positions, joint_velocities or joint_efforts of joint_state_topics; a "
        "pose (geometry_msgs/PoseStamped), twist (TwistStamped) or wrench (WrenchStamped); x, y "
        "and the rotation of a base, as base_twist (TwistStamped) or odometry (the twist of "
        "nav_msgs/Odometry); or a vector (std_msgs/Float64MultiArray, which has no stamp: its "
        "arrival counts).",
        choices=tuple(kind.value for kind in StateKind),
        each_of="states",
    ),
    Parameter(
        "state.<name>.key",
        ParameterKind.STRING,
        "",
        "Where it goes in the request; a dot steps into a nested map. Empty: state_key.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.joints",
        ParameterKind.STRINGS,
        (),
        "Its joints, in order, each one of joints. Empty: all of joints.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.topic",
        ParameterKind.STRING,
        "",
        "Topic of a pose, twist, wrench, base_twist, odometry or vector.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.rotation",
        ParameterKind.STRING,
        "rotvec",
        "How the rotation of a pose is written: rpy (rad, about fixed axes), rotvec (axis times "
        "angle), quat_xyzw, or rot6d (two columns of the matrix).",
        choices=tuple(rotation.value for rotation in Rotation),
        each_of="states",
    ),
    Parameter(
        "state.<name>.size",
        ParameterKind.INTEGER,
        0,
        "How many numbers a vector has.",
        low=0,
        high=1000,
        each_of="states",
    ),
    Parameter(
        "state.<name>.scale",
        ParameterKind.DOUBLES,
        (1.0,),
        "A value is sent times scale, plus offset: 57.29578 makes degrees of rad. One value for "
        "all, or one for each.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.offset",
        ParameterKind.DOUBLES,
        (0.0,),
        "Added to a value after scale. One value for all, or one for each.",
        each_of="states",
    ),
    Parameter(
        "prompt_key", ParameterKind.STRING, "prompt", "Where the instruction goes in the request."
    ),
    Parameter(
        "max_observation_age",
        ParameterKind.DOUBLE,
        0.2,
        "Oldest input that may be sent. With an older one nothing is sent, and the robot holds "
        "when its chunk has become too old.",
        unit="s",
        low=0.001,
        high=10.0,
        dynamic=True,
    ),
    Parameter(
        "max_camera_skew",
        ParameterKind.DOUBLE,
        0.05,
        "Greatest difference between the stamps of the cameras of one observation.",
        unit="s",
        low=0.0,
        high=10.0,
        dynamic=True,
    ),
    Parameter(
        "max_blind_time",
        ParameterKind.DOUBLE,
        0.5,
        "How long the robot may move while a camera or its joint states are missing.",
        unit="s",
        low=0.05,
        high=10.0,
        dynamic=True,
    ),
    Parameter(
        "max_frozen_time",
        ParameterKind.DOUBLE,
        1.0,
        "How long a camera may send the same image, byte for byte, under new stamps; then its "
        "driver hangs, and the robot holds. 0 is for simulated cameras, which draw a still scene "
        "without the noise of a real one.",
        unit="s",
        low=0.0,
        high=60.0,
        dynamic=True,
    ),
    # --- playing chunks ---
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
        "The server's names of the action columns, one per axis. Empty: the axes' own names.",
    ),
    Parameter(
        "action_kind",
        ParameterKind.STRINGS,
        (),
        "What the policy's numbers mean, for all axes or for each: position and gripper are "
        "absolute; velocity is of a joint; eef_delta is the way of an end effector in one step; "
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
        "robot_description_topic",
        ParameterKind.STRING,
        "/robot_description",
        "Topic with the robot's URDF, std_msgs/String, as robot_state_publisher publishes it. Its "
        "position and velocity limits bound those of the parameters, and take their place where "
        "none are set. Empty: none.",
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
        "(geometry_msgs/TwistStamped with six axes, as MoveIt Servo); base (TwistStamped or Twist "
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
        "/<name>/commands, /<name>/joint_command, /servo_node/delta_twist_cmds, /cmd_vel or "
        "/<name>/gripper_cmd.",
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
        "Of a twist: the frame in which the policy's directions count, as ROS names it.",
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
    Parameter(
        "max_tracking_error",
        ParameterKind.DOUBLES,
        (0.08,),
        "An arm that is farther from what it was commanded is stopped until ~/reset. 0 is for "
        "grippers, which hold something: they are not watched, and start from where they are "
        "commanded to be. One value for all joints, or one per joint.",
        unit="rad or m",
        low=0.0,
        dynamic=True,
    ),
    Parameter(
        "tracking_delay",
        ParameterKind.DOUBLE,
        0.05,
        "Delay of an arm that follows well, joint states included: a measured position is compared "
        "with all that was commanded in the time before it.",
        unit="s",
        low=0.0,
        high=1.0,
        dynamic=True,
    ),
    Parameter(
        "emergency_stop_topics",
        ParameterKind.STRINGS,
        (),
        "Topics with std_msgs/Bool, true while an emergency stop is pressed. Silence for "
        "stop_timeout counts as pressed. A robot that one has stopped waits for ~/reset.",
    ),
    Parameter(
        "enable_topic",
        ParameterKind.STRING,
        "",
        "Topic with std_msgs/Bool, true while the robot may move, such as a dead man's switch. "
        "Silence for stop_timeout counts as false. Empty: none.",
    ),
    Parameter(
        "hold_topic",
        ParameterKind.STRING,
        "",
        "Topic with std_msgs/Bool, true while the robot should hold. Empty: none.",
    ),
    Parameter(
        "takeover_topic",
        ParameterKind.STRING,
        "",
        "Topic with std_msgs/Bool, true while a person commands the robot by teleoperation, such "
        "as a pedal; false gives it back to the policy, which starts anew. Silence for "
        "stop_timeout leaves the robot standing with the person. Empty: none.",
    ),
    Parameter(
        "teleop_topic",
        ParameterKind.STRING,
        "",
        "Topic with sensor_msgs/JointState: where the person wants the joints, as a leader arm "
        "says it. The robot goes there within its limits while takeover_topic is true.",
    ),
    Parameter(
        "teleop_joints",
        ParameterKind.STRINGS,
        (),
        "Names of the axes in the messages on teleop_topic, in the order of axes. Empty: the same "
        "names.",
    ),
    Parameter(
        "stop_timeout",
        ParameterKind.DOUBLE,
        0.5,
        "How long an emergency stop, an enabling switch or that of takeover_topic may be silent. 0 "
        "is for topics that are published on change only, with transient local durability.",
        unit="s",
        low=0.0,
        high=10.0,
    ),
    Parameter(
        "control_rate_hz",
        ParameterKind.DOUBLE,
        50.0,
        "How often the node commands the controllers, and looks whether an observation is due or "
        "the robot must hold.",
        unit="Hz",
        low=1.0,
        high=1000.0,
    ),
    # --- the black box ---
    Parameter(
        "black_box_seconds",
        ParameterKind.DOUBLE,
        60.0,
        "How far back the black box reaches: what came in, was decided and was commanded is kept "
        "in memory (at most 64 MB) and written to an MCAP file after a fault and by ~/dump. "
        "0 records nothing.",
        unit="s",
        low=0.0,
        high=600.0,
    ),
    Parameter(
        "black_box_folder",
        ParameterKind.STRING,
        "",
        "Folder of the black box's files. Empty: openpi_flash in $ROS_HOME, which is ~/.ros unless "
        "it is set.",
    ),
    Parameter(
        "black_box_files",
        ParameterKind.INTEGER,
        20,
        "How many files of the black box are kept; the oldest are removed.",
        low=1,
        high=10000,
    ),
    Parameter(
        "black_box_images",
        ParameterKind.BOOL,
        True,
        "Whether the black box keeps small frames of the cameras, at most 160 pixels wide and two "
        "per second.",
    ),
)

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
