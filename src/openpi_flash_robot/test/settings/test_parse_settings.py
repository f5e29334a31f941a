"""parse_settings.py: parameters checked against each other; and the example configurations."""

from pathlib import Path

import pytest
import yaml

from openpi_flash_robot.settings.controllers import Controller
from openpi_flash_robot.settings.node_settings import Camera
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

REPOSITORY = Path(__file__).resolve().parents[4]
CONFIGS = sorted((REPOSITORY / "config" / "robots").glob("*.yaml"))


def flat(tree, prefix=""):
    values = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def test_parameters_become_settings(settings):
    assert settings.observation.cameras == (
        Camera("scene", "/scene/image_raw", ("observation/scene_image",)),
        Camera("wrist", "/wrist/image_raw", ("observation/wrist_image",)),
    )
    assert settings.controllers == (
        Controller("arm", "/arm/joint_trajectory", ("shoulder", "elbow"), (0, 1)),
        Controller("hand", "/hand/joint_trajectory", ("gripper",), (2,)),
    )
    assert settings.joints == settings.action_columns == ("shoulder", "elbow", "gripper")
    assert settings.observation.max_age_ns == 200_000_000
    assert settings.player.max_start_delta == (0.5, 0.5, 0.5)
    assert settings.player.max_velocity == (1.0, 1.0, 2.0)
    assert settings.control_period_ns == 20_000_000


@pytest.mark.parametrize(
    ("topic", "kind", "is_compressed"),
    [
        ("/camera/image_raw", "auto", False),
        ("/camera/image_raw/compressed", "auto", True),
        ("/camera/image_raw/compressed", "raw", False),
        ("/camera/jpeg", "compressed", True),
    ],
)
def test_a_camera_is_compressed_if_its_topic_or_the_user_says_so(
    parameters, topic, kind, is_compressed
):
    ours = {"camera.scene.topic": topic, "camera.scene.image_transport": kind}
    scene, wrist = settings_from_parameters(parameters | ours).observation.cameras
    assert (scene.is_compressed, wrist.is_compressed) == (is_compressed, False)


def test_images_are_encoded_as_the_link_needs_unless_the_parameters_insist(parameters):
    def of(**ours):
        observation = settings_from_parameters(parameters | ours).observation
        return observation.jpeg_quality, observation.least_jpeg_quality, observation.image_budget

    assert of() == (92, 70, 0.02)
    assert of(jpeg_quality=60, image_budget=0.1) == (60, 60, 0.1)
    assert of(image_encoding="raw", jpeg_quality=50)[::2] == (None, None)
    assert of(image_encoding="jpeg")[::2] == (92, None)
    assert of(image_encoding="jpeg", jpeg_quality=50)[::2] == (50, None)


@pytest.mark.parametrize("value", [0.8, [0.8], 1])
def test_one_number_is_for_all_joints(parameters, value):
    player = settings_from_parameters(parameters | {"max_velocity": value}).player
    number = value[0] if isinstance(value, list) else value
    assert player.max_velocity == (float(number),) * 3
    limits = settings_from_parameters(parameters | {"position_lower": -3.0}).player
    assert limits.position_lower == (-3.0,) * 3


def test_without_position_limits_there_are_none(parameters):
    del parameters["position_lower"], parameters["position_upper"]
    player = settings_from_parameters(parameters).player
    assert player.position_lower == (float("-inf"),) * 3
    assert player.position_upper == (float("inf"),) * 3


@pytest.mark.parametrize(
    ("transport", "port", "server"),
    [("quic", 0, "127.0.0.1:5555"), ("websocket", 0, "127.0.0.1:8000"), ("quic", 7, "127.0.0.1:7")],
)
def test_port_0_is_the_transports_own(parameters, transport, port, server):
    link = settings_from_parameters(parameters | {"transport": transport, "port": port}).link
    assert link.server == server


def test_trust_in_the_server_is_asked_for_in_one_way(parameters):
    for name in ("server_fingerprint", "ca_file", "known_servers"):
        link = settings_from_parameters(parameters | {name: "x"}).link
        assert not link.is_unauthenticated
    assert settings_from_parameters(parameters).link.is_unauthenticated
    with pytest.raises(
        ParameterError, match="ca_file and known_servers are set; each alone authenticates"
    ):
        settings_from_parameters(parameters | {"ca_file": "a", "known_servers": "b"})


def test_a_dot_in_a_key_steps_into_a_nested_map(parameters):
    parameters["camera.scene.key"] = "images.cam_high"
    assert settings_from_parameters(parameters).observation.cameras[0].key == ("images", "cam_high")


def test_dry_run_is_on_unless_someone_turns_it_off(parameters):
    del parameters["dry_run"]
    assert settings_from_parameters(parameters).dry_run is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": []}, "parameter joints is empty; name the robot's joints in policy order"),
        ({"joints": ["a", "b", "a"]}, "parameter joints has a more than once"),
        ({"cameras": []}, "parameter cameras is empty; list the names of the robot's cameras"),
        ({"server": ""}, "parameter server is not set; give the policy server's host name or"),
        ({"camera.scene.topic": ""}, "parameter camera.scene.topic is not set; give the topic of"),
        ({"camera.scene.key": ""}, "parameter camera.scene.key is not set; give the key of its"),
        ({"camera.scene.key": "a..b"}, "parameter camera.scene.key has an empty key between its"),
        (
            {"camera.scene.key": "observation/wrist_image"},
            "two inputs go to the same place in the request: observation/wrist_image and",
        ),
        ({"camera.scene.key": "prompt.image"}, "two inputs go to the same place in the request:"),
        ({"joint_state_topics": []}, "parameter joint_state_topics is empty; list the topics"),
        ({"joint_state_topics": [""]}, "parameter joint_state_topics is empty; list the topics"),
        ({"joint_state_topics": ["/a", ""]}, "parameter joint_state_topics has an empty name in"),
        ({"action_scale": [1.0, 0.0, 1.0]}, "parameter action_scale is 0 for elbow"),
        ({"action_columns": ["a"]}, "parameter action_columns has 1 names for 3 joints"),
        ({"max_velocity": [1.0, 1.0]}, "parameter max_velocity has 2 values for 3 joints"),
        ({"max_velocity": []}, "parameter max_velocity has 0 values for 3 joints"),
        ({"position_lower": [0.0, 0.0]}, "parameter position_lower has 2 values for 3 joints"),
        ({"max_velocity": float("inf")}, "parameter max_velocity must be finite, got inf"),
        (
            {"position_lower": [-2.0, 2.5, 0.0]},
            "position_lower of elbow (2.5) must be below its position_upper (2)",
        ),
        ({"image_height": 0}, "parameters image_height and image_width must both be 0 or neither"),
        (
            {"controller.arm.joints": ["wrist"]},
            "controller.arm.joints has wrist, which is not one of axes or joints",
        ),
        (
            {"controller.hand.joints": ["elbow"]},
            "joint elbow belongs to two controllers, arm and hand",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused_and_named(parameters, change, message):
    # an entry for a camera that is no longer in the list would be refused first
    given = {
        name: value
        for name, value in (parameters | change).items()
        if not (change.get("cameras") == [] and name.startswith("camera."))
    }
    with pytest.raises(ParameterError) as error:
        settings_from_parameters(given)
    assert str(error.value).startswith(message)


def test_without_a_controller_only_a_dry_run_is_possible(parameters):
    given = {k: v for k, v in parameters.items() if not k.startswith("controller")}
    with pytest.raises(ParameterError, match="without one only dry_run is possible"):
        settings_from_parameters(given)
    assert settings_from_parameters(given | {"dry_run": True}).controllers == ()


def test_there_are_example_configurations():
    assert "sim_arm.yaml" in [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_configuration_is_valid_and_does_not_move_the_robot(path):
    given = flat(yaml.safe_load(path.read_text())["/**"]["ros__parameters"])
    assert settings_from_parameters(given).dry_run is True


def test_a_joint_that_no_controller_has_is_known(parameters):
    assert settings_from_parameters(parameters).axes_without_controller == ()
    ours = {"controllers": ["arm"], "controller.arm.joints": ["elbow", "shoulder"]}
    del parameters["controller.hand.joints"]
    assert settings_from_parameters(parameters | ours).axes_without_controller == ("gripper",)


def test_a_joint_that_is_left_out_on_purpose_keeps_no_chunk_from_starting(parameters):
    ours = {"controllers": ["arm"], "unmoved_joints": ["gripper"]}
    del parameters["controller.hand.joints"]
    player = settings_from_parameters(parameters | ours).player
    assert player.max_start_delta == (0.5, 0.5, float("inf"))
    assert player.max_tracking_error == (0.08, 0.08, 0.0)


def test_a_joint_cannot_be_moved_and_left_out(parameters):
    with pytest.raises(ParameterError, match="elbow is one of unmoved_joints, and controller arm"):
        settings_from_parameters(parameters | {"unmoved_joints": ["elbow"]})


def test_topics_have_one_prefix_each_or_none(parameters):
    topics = {"joint_state_topics": ["/left/joint_states", "/right/joint_states"]}
    found = settings_from_parameters(parameters | topics).observation
    assert found.joint_state_prefixes == ("", "")
    given = topics | {"joint_state_prefixes": ["left_", "right_"]}
    found = settings_from_parameters(parameters | given).observation
    assert found.joint_state_prefixes == ("left_", "right_")
    with pytest.raises(ParameterError, match="joint_state_prefixes has 1 values for 2 joint_state"):
        settings_from_parameters(parameters | topics | {"joint_state_prefixes": ["left_"]})


def test_a_controller_may_have_names_of_its_own_for_its_joints(parameters):
    assert settings_from_parameters(parameters).controllers[0].sent_names == ("shoulder", "elbow")
    own = {"controller.arm.joint_names": ["j1", "j2"]}
    arm = settings_from_parameters(parameters | own).controllers[0]
    assert (arm.joints, arm.sent_names) == (("shoulder", "elbow"), ("j1", "j2"))
    with pytest.raises(ParameterError, match="arm.joint_names has 1 names, and .*joints has 2"):
        settings_from_parameters(parameters | {"controller.arm.joint_names": ["j1"]})


def test_no_limit_of_the_jerk_is_the_default_and_one_may_be_given_for_each_joint(parameters):
    assert settings_from_parameters(parameters).player.max_jerk == (float("inf"),) * 3
    given = parameters | {"max_jerk": [50.0, 100.0, 0.0]}
    player = settings_from_parameters(given).player
    assert player.max_jerk == (50.0, 100.0, float("inf"))
    assert player.smoothing_ns == 200_000_000  # 2 x 5 / 50 s


def test_a_limit_of_the_jerk_that_puts_braking_off_for_longer_than_a_window_is_refused(parameters):
    with pytest.raises(ParameterError) as refused:
        settings_from_parameters(parameters | {"max_jerk": [50.0, 20.0, 0.0]})
    assert str(refused.value) == (
        "max_jerk of elbow (20) is too low for its max_acceleration (5): motions would be averaged "
        "over 0.5 s, which is longer than command_window (0.3 s), and braking would begin too "
        "late; set max_jerk to 34 or more, or max_acceleration to 3 or less"
    )
    for cure in ({"max_jerk": [34.0]}, {"max_acceleration": [3.0], "max_jerk": [20.0]}):
        settings_from_parameters(parameters | cure)
    settings_from_parameters(parameters | {"max_jerk": [20.0], "command_window": 0.5})


def test_a_relay_needs_its_token_and_quic(parameters):
    both = {"relay": "meet.example", "relay_token_file": "token"}
    link = settings_from_parameters(parameters | both).link
    assert (link.relay, link.relay_token_file) == ("meet.example", "token")
    for given, missing in (tuple(both), tuple(reversed(both))):
        match = f"parameter {given} is set and {missing} is not"
        with pytest.raises(ParameterError, match=match):
            settings_from_parameters(parameters | {given: both[given]})
    with pytest.raises(ParameterError, match="which no relay carries"):
        settings_from_parameters(parameters | both | {"transport": "websocket"})
