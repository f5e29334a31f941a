"""observation.py: one request, where and how the server reads it."""

import numpy as np
import pytest

from openpi_flash_robot.senses.frames import Frame, FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import (
    CameraImageError,
    ImageWork,
    Observation,
    build_request,
)
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.server_contract import ImageTarget

SCENE, WRIST = ("observation/scene_image",), ("observation/wrist_image",)
HWC = ImageTarget(224, 224, channels_first=False)


def picture(height, width, value):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 2] = value, 2 * value
    return image


@pytest.fixture
def observation():
    frames = FrameSet(
        {"scene": Frame(1_000, (480, 640, 10)), "wrist": Frame(1_200, (224, 224, 20))}, 1_000, 1_200
    )
    here = np.array([0.1, 0.2, 0.3])
    states = StateReading({("observation/state",): here}, 900)
    return Observation(frames, JointReading(here, 900), states, "stack the cubes")


@pytest.fixture
def resized():
    return []


@pytest.fixture
def work(resized):
    def resize(image, height, width):
        resized.append((image.shape, height, width))
        return picture(height, width, image[0, 0, 0])

    return ImageWork(
        decode=lambda message, _at_least: picture(*message),
        resize=resize,
        encode=lambda image, quality: {"shape": image.shape, "quality": quality},
    )


def test_inputs_go_where_the_policy_reads_them(observation, settings, work):
    request = build_request(observation, settings.observation, {SCENE: HWC, WRIST: HWC}, work)
    assert set(request) == {*SCENE, *WRIST, "observation/state", "prompt"}
    assert request["observation/scene_image"].shape == (224, 224, 3)
    assert request["observation/scene_image"][0, 0].tolist() == [10, 0, 20]
    assert request["observation/wrist_image"][0, 0].tolist() == [20, 0, 40]
    assert request["observation/state"].dtype == np.float32
    np.testing.assert_array_equal(request["observation/state"], np.float32([0.1, 0.2, 0.3]))
    assert request["prompt"] == "stack the cubes"


def test_only_an_image_of_another_size_is_resized(observation, settings, work, resized):
    build_request(observation, settings.observation, {SCENE: HWC, WRIST: HWC}, work)
    assert resized == [((480, 640, 3), 224, 224)]


def test_a_server_that_wants_channels_first_gets_them(observation, settings, work):
    targets = {SCENE: ImageTarget(120, 160, channels_first=True), WRIST: HWC}
    image = build_request(observation, settings.observation, targets, work)[SCENE[0]]
    assert image.shape == (3, 120, 160)
    assert image.flags.c_contiguous
    assert image[:, 0, 0].tolist() == [10, 0, 20]


def test_where_the_server_says_nothing_the_settings_decide(observation, settings, work, replace):
    ours = replace(settings.observation, image_size=(96, 128), image_layout="chw")
    request = build_request(observation, ours, {}, work)
    assert request[SCENE[0]].shape == request[WRIST[0]].shape == (3, 96, 128)


def test_without_any_size_images_stay_as_they_are(observation, settings, work, resized, replace):
    ours = replace(settings.observation, image_size=None)
    request = build_request(observation, ours, {}, work)
    assert request[SCENE[0]].shape == (480, 640, 3)
    assert resized == []


def test_paths_with_more_than_one_key_become_nested_maps(observation, settings, work, replace):
    scene, wrist = settings.observation.cameras
    cameras = (
        replace(scene, key=("images", "cam_high")),
        replace(wrist, key=("images", "cam_wrist")),
    )
    ours = replace(settings.observation, cameras=cameras)
    states = StateReading({("state", "arm"): np.zeros(2), ("state", "hand"): np.ones(1)}, 900)
    request = build_request(replace(observation, states=states), ours, {}, work)
    assert set(request) == {"images", "state", "prompt"}
    assert set(request["images"]) == {"cam_high", "cam_wrist"}
    assert set(request["state"]) == {"arm", "hand"}
    assert request["state"]["hand"].dtype == np.float32


def test_without_an_instruction_the_server_uses_its_own(observation, settings, work, replace):
    request = build_request(replace(observation, prompt=""), settings.observation, {}, work)
    assert "prompt" not in request


def test_a_picture_that_cannot_be_decoded_names_its_camera_and_topic(
    observation, settings, work, replace
):
    def refuse(message, at_least):
        raise ValueError("encoding '16UC1' is not known")

    with pytest.raises(CameraImageError) as error:
        build_request(observation, settings.observation, {}, replace(work, decode=refuse))
    assert str(error.value) == "camera scene (/scene/image_raw): encoding '16UC1' is not known"


def test_a_picture_may_be_decoded_to_twice_what_is_sent(observation, settings, work, replace):
    asked = []

    def decode(message, at_least):
        asked.append(at_least)
        return picture(*message)

    targets = {SCENE: ImageTarget(120, 160, channels_first=True)}
    ours = replace(settings.observation, image_size=(96, 128))
    build_request(observation, ours, targets, replace(work, decode=decode))
    build_request(observation, replace(ours, image_size=None), {}, replace(work, decode=decode))
    assert asked == [(240, 320), (192, 256), None, None]


def test_images_are_encoded_in_the_size_and_layout_the_server_wants(observation, settings, work):
    targets = {SCENE: ImageTarget(120, 160, channels_first=True), WRIST: HWC}
    request = build_request(observation, settings.observation, targets, work, encoding=lambda _: 90)
    assert request[SCENE[0]] == {"shape": (3, 120, 160), "quality": 90}
    assert request[WRIST[0]] == {"shape": (224, 224, 3), "quality": 90}


def test_a_deadline_is_sent_to_a_server_that_wants_to_know(observation, settings, work):
    request = build_request(observation, settings.observation, {}, work, deadline_ms=250.0)
    assert request["deadline_ms"] == 250.0


def test_the_session_is_said_where_the_connection_has_not_said_it(observation, settings, work):
    assert "session" not in build_request(observation, settings.observation, {}, work)
    request = build_request(observation, settings.observation, {}, work, session="arm-7")
    assert request["session"] == "arm-7"


def test_an_observation_is_as_old_as_its_oldest_input(observation, replace):
    assert observation.oldest_ns == 900
    later = replace(observation, states=StateReading({}, 5_000))
    assert later.oldest_ns == 1_000


def test_what_the_server_is_told_of_the_running_chunk_goes_along(observation, settings, work):
    said = {"delay": 2}
    request = build_request(observation, settings.observation, {}, work, rtc=said)
    assert request["rtc"] == said
    assert "rtc" not in build_request(observation, settings.observation, {}, work)
