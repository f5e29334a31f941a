import numpy as np
import pytest

from openpi_flash_models.errors import InferenceConfigError, ObservationError
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.robots import ROBOTS, get_robot
from openpi_flash_models.robots.aloha import gripper_from_angle, gripper_to_angle


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_a_robot_reads_its_own_example(robot):
    observation = robot.example_observation("fold the towel")
    assert observation["prompt"] == "fold the towel"
    assert robot.read_state(observation).shape == (sum(part.size for part in robot.state),)
    images = robot.read_images(observation)
    assert {image.shape for image in images.values()} == {(224, 224, 3)}
    slots = [camera.slot for camera in robot.cameras]
    assert slots == [slot for slot in CAMERAS if slot in slots], "cameras in the model's order"
    assert robot.actions_to_robot(np.zeros((3, len(robot.action_names)))).shape[0] == 3


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_each_missing_key_is_named(robot):
    for part in robot.state:
        observation = robot.example_observation()
        del observation[part.key]
        with pytest.raises(ObservationError, match=f"^{part.key}: missing: the observation has"):
            robot.read_state(observation)
    for camera in robot.cameras:
        observation = robot.example_observation()
        branch = observation
        for key in camera.path[:-1]:
            branch = branch[key]
        del branch[camera.path[-1]]
        if camera.required:
            with pytest.raises(ObservationError, match="/".join(camera.path)):
                robot.read_images(observation)
        else:
            assert camera.slot not in robot.read_images(observation)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.zeros(6), r"expected shape \[7\], got \[6\]"),
        (np.zeros((1, 7)), r"expected shape \[7\], got \[1, 7\]"),
        (np.array(["a"] * 7), "expected numbers, got text"),
        (np.array([0, 0, 0, np.nan, 0, 0, 0]), "not finite"),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(value, problem):
    robot = get_robot("sim_arm")
    observation = robot.example_observation() | {"observation/state": value}
    with pytest.raises(ObservationError, match=f"observation/state: .*{problem}"):
        robot.read_state(observation)


def test_droids_gripper_may_be_a_scalar():
    robot = get_robot("droid")
    observation = robot.example_observation() | {"observation/gripper_position": 0.5}
    assert robot.read_state(observation).tolist() == [0.0] * 7 + [0.5]


def test_alohas_unused_camera_is_taken_and_an_unknown_one_is_refused():
    robot = get_robot("aloha")
    observation = robot.example_observation()
    observation["images"]["cam_low"] = observation["images"]["cam_high"]
    assert len(robot.read_images(observation)) == 3
    observation["images"]["cam_hihg"] = observation["images"]["cam_high"]
    with pytest.raises(ObservationError, match="images/cam_hihg: no such camera, known: cam_high"):
        robot.read_images(observation)


def test_alohas_gripper_follows_openpis_geometry():
    angles = gripper_to_angle(np.array([0.0, 1.0]))
    assert angles == pytest.approx([-1.07986555, 0.9456528], abs=1e-7)
    opening = gripper_from_angle(np.array([0.0, 1.0]))
    assert opening == pytest.approx([0.55337783, 1.02679544], abs=1e-7)


def test_alohas_state_equals_openpis(data):
    arrays = np.load(data / "transforms.npz")
    robot = get_robot("aloha")
    for raw, expected in zip(
        arrays["aloha/state_raw"].reshape(-1, 14),
        arrays["aloha/state"].reshape(-1, 14),
        strict=True,
    ):
        state = robot.read_state({"state": raw})
        np.testing.assert_allclose(state, expected, rtol=1e-6, atol=1e-9)


def test_an_unknown_robot_answers_with_the_known_names():
    with pytest.raises(InferenceConfigError, match="no robot named 'r2d2', known: aloha, droid"):
        get_robot("r2d2")


def test_every_robot_is_found_by_its_own_name():
    assert all(get_robot(name).name == name for name in ROBOTS)
