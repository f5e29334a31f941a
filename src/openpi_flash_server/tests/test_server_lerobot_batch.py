"""lerobot_batch.py: requests as LeRobot's policies read them."""

import numpy as np
import pytest

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.own_policy.lerobot_batch import Feature, batch_of

TOP = Feature("observation.images.top", (3, 4, 6), is_image=True)
STATE = Feature("observation.state", (2,), is_image=False)


def image(level=255, height=4, width=6):
    return np.full((height, width, 3), level, np.uint8)


def request(**more):
    return {TOP.key: image(), STATE.key: np.array([1, 2]), **more}


def test_images_are_channels_first_from_0_to_1_and_everything_has_a_batch_of_one():
    batch = batch_of(request(), (TOP, STATE), None)
    assert batch[TOP.key].shape == (1, 3, 4, 6)
    assert batch[STATE.key].tolist() == [[1, 2]]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.float32)}
    assert np.unique(batch[TOP.key]).tolist() == [1.0]
    assert TOP.request_shape == (4, 6, 3)


def test_one_frame_stands_for_all_that_a_policy_with_history_reads():
    batch = batch_of(request(), (TOP, STATE), 2)
    assert batch[TOP.key].shape == (1, 2, 3, 4, 6)
    assert batch[STATE.key].tolist() == [[[1, 2], [1, 2]]]
    assert batch_of(request(), (STATE,), 1)[STATE.key].shape == (1, 1, 2)


def test_a_client_may_send_the_history_itself():
    frames = np.stack([image(0), image(255)])
    observation = {TOP.key: frames, STATE.key: [[1, 2], [3, 4]]}
    batch = batch_of(observation, (TOP, STATE), 2)
    assert batch[STATE.key].tolist() == [[[1, 2], [3, 4]]]
    assert batch[TOP.key][0, :, 0, 0, 0].tolist() == [0, 1]


def test_an_image_of_another_size_is_stretched_to_the_policys():
    half = np.zeros((8, 3, 3), np.uint8)
    half[4:] = 255
    batch = batch_of(request(**{TOP.key: half}), (TOP,), None)
    assert batch[TOP.key].shape == (1, 3, 4, 6)
    assert batch[TOP.key][0, 0, [0, -1], 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({}, "observation.state: missing: the observation has nothing"),
        ({STATE.key: [1, 2, 3]}, "observation.state: expected shape [2], got [3]"),
        ({STATE.key: 1.0}, "observation.state: expected shape [2], got []"),
        ({STATE.key: ["a", "b"]}, "observation.state: "),
        ({STATE.key: [1, np.nan]}, "observation.state: "),
        ({STATE.key: [[1, 2]] * 3}, "observation.state: expected one frame or 2, got 3"),
    ],
)
def test_what_cannot_be_read_is_named(observation, message):
    with pytest.raises(ObservationError) as caught:
        batch_of(observation, (STATE,), 2)
    assert str(caught.value).startswith(message)
