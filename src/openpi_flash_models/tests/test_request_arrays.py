"""Whatever a client sends in place of an array or a prompt is refused by name, and by cause."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.robots import ROBOTS, get_robot
from openpi_flash_models.text.task import requested_task, task_of
from openpi_flash_models.transforms.arrays import parse_numbers
from openpi_flash_models.transforms.images import parse_image, resize_with_pad

OBJECTS = np.array([1, "a", None], dtype=object)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([[1, 2], [3]], "expected an array, got lists of different lengths"),
        ([1, [2, 3]], "got lists of different lengths"),
        (OBJECTS, "expected an array of numbers, got a mix of NoneType, int, str"),
        ([1, None], "got a mix of NoneType, int"),
        ([2**70, 1], "got whole numbers of more than 64 bits"),
        (["1", "2"], "expected numbers, got text"),
        (np.array([b"1"]), "expected numbers, got bytes"),
        ([True, False], "expected numbers, got true and false"),
        (np.array([1j]), "expected numbers, got complex numbers"),
        (np.array(["2026-01-01"], "M8[D]"), r"expected numbers, got datetime64\[D\]"),
        ("1, 2, 3", "expected an array, got str of length 7"),
        (b"\x00" * 32, "expected an array, got bytes of length 32"),
        (None, "expected an array, got nothing"),
        ({"x": 1}, "expected an array, got a map with the keys x$"),
        (
            {"nd": True, "type": "<f4", "shape": [8], "data": b""},
            "got a map with the keys data, nd, shape, type; arrays travel as openpi_client",
        ),
        ({b"nd": True, b"kind": b"V"}, "got a map with the keys kind, nd; arrays travel as"),
        ([0.0, np.nan], r"holds a value that is not finite, at \[1\]: nan"),
        (np.array([[0, -np.inf]]), r"holds a value that is not finite, at \[0, 1\]: -inf"),
        ([0.0, 1e300], r"holds a value that is too large for float32, at \[1\]: 1e\+300"),
        (-1e39, r"holds a value that is too large for float32: -1e\+39"),
    ],
)
def test_what_is_no_array_of_usable_numbers_is_refused(value, problem):
    with pytest.raises(ObservationError, match=f"^some/key: .*{problem}") as refused:
        parse_numbers(value, "some/key")
    assert refused.value.key == "some/key"


@pytest.mark.parametrize(
    "value", [[1, 2], (1.0, 2.0), np.float16([1, 2]), np.array([2**64 - 1, 0], np.uint64), 3, []]
)
def test_numbers_of_every_kind_are_taken(value):
    np.testing.assert_array_equal(parse_numbers(value, "key"), np.asarray(value))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_any_value_is_numbers_or_an_observation_error(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            numbers = parse_numbers(value, "key")
        except ObservationError:
            return
    assert numbers.dtype.kind in "fiu"
    assert np.isfinite(numbers.astype(np.float32)).all()


@settings(max_examples=100, deadline=None)
@given(anything)
def test_any_value_of_any_key_of_a_robot_is_refused_by_name(value):
    for robot in ROBOTS.values():
        example = robot.example_observation()
        for part in robot.state:
            refused = key_refused(robot.read_state, example | {part.key: value})
            assert refused in (None, part.key)
        for camera in robot.cameras:
            top = camera.path[0]
            refused = key_refused(robot.read_images, example | {top: value})
            assert refused is None or refused == top or refused.startswith(f"{top}/")


def key_refused(read, observation):
    try:
        read(observation)
    except ObservationError as error:
        return error.key
    return None


@pytest.mark.parametrize(
    ("shape", "small"),
    [((1, 640, 3), "0 x 224"), ((640, 1, 3), "224 x 0"), ((2, 449, 3), "0 x 224")],
)
def test_an_image_that_leaves_nothing_when_it_is_scaled_is_refused(shape, small):
    problem = rf"^camera: an image of {shape[0]} x {shape[1]} .* becomes {small}"
    with pytest.raises(ObservationError, match=problem):
        parse_image(np.zeros(shape, np.uint8), "camera")


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 224, 3), (2, 448, 3), (3, 5, 1), (1080, 1920, 3)])
def test_an_image_that_leaves_a_row_is_taken(shape):
    image = parse_image(np.full(shape, 255, np.uint8), "camera")
    scaled = resize_with_pad(image, 224, 224)
    assert scaled.shape == (224, 224, 3)
    assert scaled.max() == 255


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([[[1, 2, 3]], [[1, 2]]], "lists of different lengths"),
        (np.zeros((4, 4, 3), bool), r"expected uint8 or floats in \[0, 1\], got bool"),
        (np.zeros((4, 4, 3), np.int64), r"expected uint8 or floats in \[0, 1\], got int64"),
        (np.full((4, 4, 3), "a"), r"expected uint8 or floats in \[0, 1\], got <U1"),
        (np.full((4, 4, 3), None), "expected an array of numbers, got a mix of NoneType"),
        (np.full((4, 4, 3), 1e300), r"expected floats in \[0, 1\] .* from 1e\+300"),
        (np.full((4, 4, 3), np.nan), r"expected floats in \[0, 1\] .* from nan"),
        ({"__ndarray__": b"", "dtype": "|u1"}, "a map with the keys __ndarray__, dtype; arrays"),
        (b"\xff\xd8\xff", "expected an array, got bytes of length 3"),
    ],
)
def test_what_is_no_image_is_refused(value, problem):
    with pytest.raises(ObservationError, match=f"^camera: .*{problem}"):
        parse_image(value, "camera")


def test_whole_numbers_of_a_state_are_converted_like_others():
    """A conversion on integers would cut off what comes behind the point."""
    aloha = get_robot("aloha")
    state = np.zeros(14)
    whole = aloha.read_state({"state": state.astype(np.int64)})
    np.testing.assert_array_equal(whole, aloha.read_state({"state": state}))
    assert whole[6] == pytest.approx(-1.0798656)


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("fold the towel", "fold the towel"),
        (" as it is ", " as it is "),
        (b"fold \xc3\xbcber", "fold über"),
        (bytearray(b"fold"), "fold"),
        (np.array("fold"), "fold"),
        (np.array(b"fold"), "fold"),
        (np.array(["fold"]), "fold"),
        (np.array("fold", dtype=object), "fold"),
        (np.str_("fold"), "fold"),
        (np.bytes_(b"fold"), "fold"),
        ("", None),
        (" \n\t", None),
        (b"", None),
        (np.array(""), None),
        (None, None),
    ],
)
def test_a_prompt_is_text_in_any_of_its_forms_and_a_blank_one_is_none(prompt, task):
    assert requested_task({"prompt": prompt}) == task
    assert task_of({"prompt": prompt}, None, "  ", "default") == (task or "default")


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (3, "expected text, got int"),
        (["fold"], "expected text, got list"),
        ({}, "expected text, got dict"),
        (np.array(["a", "b"]), r"expected text, got an array <U1\[2\]"),
        (np.array(3), "expected text, got int"),
        (b"\xff", "expected text in UTF-8, got bytes with invalid start byte at 0"),
    ],
)
def test_a_prompt_that_is_no_text_is_refused_whatever_the_default(prompt, problem):
    with pytest.raises(ObservationError, match=f"^prompt: {problem}"):
        task_of({"prompt": prompt}, "default")


def test_no_task_at_all_is_refused():
    with pytest.raises(ObservationError, match=r"^prompt: missing, and the server has no default_"):
        task_of({})
    with pytest.raises(ObservationError, match=r"^prompt: empty, and the server has no default_"):
        task_of({"prompt": " "}, None, "")
