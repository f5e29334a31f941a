"""The parameters of what stops the robot, and of what is recorded."""

from __future__ import annotations

from openpi_flash_robot.settings.parameter_kinds import Parameter, ParameterKind
from openpi_flash_robot.settings.stop_states import StopStateKind

PARAMETERS: tuple[Parameter, ...] = (
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
        "stop_states",
        ParameterKind.STRINGS,
        (),
        "Names of the states of the robot that stop it, as an emergency stop does; each has the "
        "entries stop_state.<name>.*. What was not heard yet, and a value that is not known, stops "
        "it too. A robot that one has stopped waits for ~/reset.",
    ),
    Parameter(
        "stop_state.<name>.kind",
        ParameterKind.STRING,
        "ur_safety_mode",
        "What it is: ur_safety_mode or ur_robot_mode (ur_dashboard_msgs), which let the robot move "
        "while it is NORMAL or REDUCED, and RUNNING; robot_program_running (std_msgs/Bool), while "
        "it is true; franka_robot_state (franka_msgs), while its mode is IDLE or MOVE. The package "
        "of the messages must be installed.",
        choices=tuple(kind.value for kind in StopStateKind),
        each_of="stop_states",
    ),
    Parameter(
        "stop_state.<name>.topic",
        ParameterKind.STRING,
        "",
        "Its topic. Empty: that of the robot's own driver, "
        "/io_and_status_controller/safety_mode, robot_mode or robot_program_running, or "
        "/franka_robot_state_broadcaster/robot_state.",
        each_of="stop_states",
    ),
    Parameter(
        "stop_state.<name>.timeout",
        ParameterKind.DOUBLE,
        0.0,
        "How long it may be silent. 0: stop_timeout for franka_robot_state; the others are "
        "published on change, and stop the robot when nobody publishes them any more.",
        unit="s",
        low=0.0,
        high=10.0,
        each_of="stop_states",
    ),
    Parameter(
        "activity_topic",
        ParameterKind.STRING,
        "/controller_manager/activity",
        "Topic with controller_manager_msgs/ControllerManagerActivity: the robot holds while one "
        "of its controllers, or the hardware, is not active. Heeded where these messages are "
        "installed and published (ros2_control of Jazzy and later). Empty: none.",
    ),
    Parameter(
        "hardware_components",
        ParameterKind.STRINGS,
        (),
        "Names of the hardware components that must be active, by activity_topic. Empty: all that "
        "it names.",
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
    Parameter(
        "record_folder",
        ParameterKind.STRING,
        "",
        "Folder of the episodes that ~/record/start records, one MCAP file each. Empty: "
        "openpi_flash/episodes in $ROS_HOME, which is ~/.ros unless it is set.",
    ),
    Parameter(
        "record_jpeg_quality",
        ParameterKind.INTEGER,
        90,
        "JPEG quality of recorded images whose camera sends pixels; compressed topics are recorded "
        "as they come. 0 records the pixels, 20 to 30 times as much.",
        low=0,
        high=100,
    ),
)
