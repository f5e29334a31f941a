"""The parameters of what goes into a request."""

from __future__ import annotations

from openpi_flash_robot.settings.parameter_kinds import Parameter, ParameterKind
from openpi_flash_robot.settings.state_inputs import Rotation, StateKind

PARAMETERS: tuple[Parameter, ...] = (
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
        "auto",
        "How images go to the server. raw is exact, 150 kB for each camera of 224x224; jpeg is a "
        "tenth to a fifth of that; auto is raw where the measured link carries the images within "
        "image_budget, else jpeg. A server that cannot decode jpeg gets raw.",
        choices=("auto", "raw", "jpeg"),
    ),
    Parameter(
        "jpeg_quality",
        ParameterKind.INTEGER,
        92,
        "Quality of jpeg, much as libjpeg's: 92 keeps an image of 224x224 in about 17 kB. auto "
        "chooses no better one.",
        low=1,
        high=100,
    ),
    Parameter(
        "least_jpeg_quality",
        ParameterKind.INTEGER,
        70,
        "Worst quality that image_encoding auto chooses, however slow the link is; at most "
        "jpeg_quality counts.",
        low=1,
        high=100,
    ),
    Parameter(
        "image_budget",
        ParameterKind.DOUBLE,
        0.02,
        "How long the images of a request may take on the link, beyond its round trip, with "
        "image_encoding auto. 0.02 sends three cameras of 224x224 raw from about 180 Mb/s on.",
        unit="s",
        low=0.001,
        high=10.0,
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
        "pose (geometry_msgs/PoseStamped), the same by tf (of child_frame in frame, from /tf and "
        "/tf_static), a twist (TwistStamped) or wrench (WrenchStamped); x, y "
        "and the rotation of a base, as base_twist (TwistStamped) or odometry (the twist of "
        "nav_msgs/Odometry); a vector (std_msgs/Float64MultiArray), or one number (float64 or "
        "float32 of std_msgs). These three have no stamp: their arrival counts.",
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
        "Topic of a pose, twist, wrench, base_twist, odometry, vector, float64 or float32.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.frame",
        ParameterKind.STRING,
        "",
        "Of tf: the frame in which the pose counts. Of a pose: the frame_id that its messages must "
        "have; empty: any.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.child_frame",
        ParameterKind.STRING,
        "",
        "Of tf: the frame whose pose it is.",
        each_of="states",
    ),
    Parameter(
        "state.<name>.rotation",
        ParameterKind.STRING,
        "rotvec",
        "How the rotation of a pose is written: rpy (rad, about fixed axes), rotvec (axis times "
        "angle), quat_xyzw, quat_wxyz, or rot6d (two columns of the matrix).",
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
)
