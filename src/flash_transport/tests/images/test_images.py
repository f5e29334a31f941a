"""Image work against PIL and openpi's own `image_tools`."""

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import implementation  # noqa: F401 - every test over both halves
from openpi_client import image_tools
from PIL import Image

from flash_transport import ImageError, image_to_rgb, resize_with_pad

TOLERANCE = 1
"""Levels of 255: both round twice, PIL after the rows and we after the columns."""


def noise(height, width, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(height * width).integers(0, 256, shape, dtype=np.uint8)


def photo(height, width):
    """Smooth gradients with hard edges, as PIL would see from a camera."""
    y, x = np.mgrid[0:height, 0:width]
    stripes = 255 * ((x // 7 + y // 11) % 2)
    return np.stack([x * 255 // width, y * 255 // height, stripes], -1).astype(np.uint8)


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max()


def chw(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


SIZES = [
    pytest.param(480, 640, id="640x480"),
    pytest.param(480, 848, id="848x480"),
    pytest.param(240, 424, id="424x240"),
    pytest.param(720, 1280, id="1280x720"),
    pytest.param(1080, 1920, id="1920x1080"),
    pytest.param(964, 1288, id="1288x964"),
    pytest.param(640, 480, id="upright"),
    pytest.param(333, 777, id="odd"),
    pytest.param(101, 57, id="small and odd"),
    pytest.param(64, 48, id="up-scaled"),
    pytest.param(225, 224, id="one row too many"),
    pytest.param(224, 300, id="height fits already"),
    pytest.param(1, 1, id="one pixel"),
]


@pytest.mark.parametrize("picture", [noise, photo])
@pytest.mark.parametrize("target", [(224, 224), (180, 320), (37, 91)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_images_are_resized_as_by_openpi(height, width, target, picture):
    image = picture(height, width)
    expected = image_tools.resize_with_pad(image, *target)
    rows = resize_with_pad(image, *target)
    assert (rows.dtype, rows.flags.c_contiguous) == (np.uint8, True)
    assert difference(rows, expected) <= TOLERANCE
    planes = resize_with_pad(chw(image), *target)
    assert planes.shape == (3, *target)
    assert difference(planes.transpose(1, 2, 0), expected) <= TOLERANCE


@pytest.mark.parametrize("target", [(224, 224), (31, 7)])
def test_the_geometry_is_openpis_for_every_size(target):
    # a white image shows where it lies; PIL decides for all sizes that a line of cameras could have
    for height in range(5, 90, 4):
        for width in range(5, 90, 3):
            white = np.full((height, width, 3), 255, np.uint8)
            try:
                expected = image_tools.resize_with_pad(white, *target)
            except ValueError:  # PIL: height and width must be > 0
                with pytest.raises(ImageError, match="too thin"):
                    resize_with_pad(white, *target)
                continue
            assert difference(resize_with_pad(white, *target), expected) == 0, (height, width)


def test_the_filter_is_pils_bilinear_and_no_other():
    image = noise(480, 640)
    middle = resize_with_pad(image, 224, 224)[28:196]
    for method in (Image.Resampling.BOX, Image.Resampling.HAMMING, Image.Resampling.BICUBIC):
        other = np.asarray(Image.fromarray(image).resize((224, 168), method))
        assert difference(middle, other) > 10 * TOLERANCE
    pil = np.asarray(Image.fromarray(image).resize((224, 168), Image.Resampling.BILINEAR))
    assert difference(middle, pil) <= TOLERANCE


@pytest.mark.parametrize(
    ("height", "width", "share"), [(480, 640, 0.13), (720, 1280, 0.07), (1080, 1920, 0.06)]
)
def test_few_samples_are_rounded_the_other_way(height, width, share):
    image = noise(height, width)
    expected = image_tools.resize_with_pad(image, 224, 224)
    assert np.mean(resize_with_pad(image, 224, 224) != expected) < share


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    target=st.tuples(*[st.integers(8, 64)] * 2),
    picture=st.sampled_from([noise, photo]),
)
def test_any_size_is_resized_as_by_openpi(height, width, target, picture):
    image = picture(height, width)
    try:
        expected = image_tools.resize_with_pad(image, *target)
    except ValueError:  # PIL: height and width must be > 0
        with pytest.raises(ImageError, match="too thin"):
            resize_with_pad(image, *target)
        return
    assert difference(resize_with_pad(image, *target), expected) <= TOLERANCE


def triangle_weights(size, target):
    """How much of each old sample is in each new one: linear, as wide as the reduction."""
    scale = size / target
    old, new = np.arange(size), (np.arange(target)[:, None] + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(old - new) / max(scale, 1))
    return weights / weights.sum(1, keepdims=True)


def resized_floats(image, height, width):
    """openpi's model code, in double precision."""
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    rows, columns = int(image.shape[0] / ratio), int(image.shape[1] / ratio)
    vertical = triangle_weights(image.shape[0], rows)
    horizontal = triangle_weights(image.shape[1], columns)
    middle = np.einsum("yh,hwc->ywc", vertical, image.astype(float), optimize=True)
    middle = np.einsum("ywc,xw->yxc", middle, horizontal, optimize=True)
    out = np.full((height, width, 3), -1.0)
    top, left = (height - rows) // 2, (width - columns) // 2
    out[top : top + rows, left : left + columns] = middle.clip(-1, 1)
    return out


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_floats_are_resized_as_by_openpis_models(height, width):
    image = noise(height, width).astype(np.float32) / 100 - 1.2  # beyond -1 and 1
    expected = resized_floats(image, 224, 224)
    rows = resize_with_pad(image, 224, 224)
    assert (rows.dtype, rows.shape) == (np.float32, (224, 224, 3))
    assert np.abs(rows - expected).max() < 1e-5
    planes = resize_with_pad(chw(image), 224, 224)
    assert np.abs(planes.transpose(1, 2, 0) - expected).max() < 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("leading", [(1,), (4,), (2, 3), (0,)])
def test_a_stack_of_images_is_resized_one_by_one(leading, dtype):
    stack = np.random.default_rng(0).integers(0, 2, (*leading, 30, 50, 3)).astype(dtype)
    out = resize_with_pad(stack, 24, 20)
    assert (out.dtype, out.shape) == (dtype, (*leading, 24, 20, 3))
    for index in np.ndindex(leading):
        assert np.array_equal(out[index], resize_with_pad(stack[index], 24, 20))
    planes = resize_with_pad(np.moveaxis(stack, -1, -3), 24, 20)
    assert np.array_equal(np.moveaxis(planes, -3, -1), out)


@pytest.mark.parametrize("layout", [lambda image: image, chw])
def test_an_image_that_fits_is_returned_itself(layout):
    image = layout(noise(224, 224))
    assert resize_with_pad(image, 224, 224) is image


def test_a_last_size_of_three_means_rows():
    image = noise(3, 5)
    assert resize_with_pad(image, 6, 10).shape == (6, 10, 3)
    ambiguous = np.zeros((3, 5, 3), np.uint8)
    assert resize_with_pad(ambiguous, 8, 8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::-1, :, ::-1],
        lambda image: image[10:300, 20:500],
        np.asfortranarray,
        lambda image: np.broadcast_to(image[:1], image.shape),
    ],
    ids=["flipped", "cropped", "fortran", "broadcast"],
)
def test_an_image_may_lie_in_memory_in_any_order(view):
    image = view(noise(480, 640))
    expected = resize_with_pad(image.copy(order="C"), 224, 224)
    assert np.array_equal(resize_with_pad(image, 224, 224), expected)


def test_a_read_only_image_is_resized():
    image = np.frombuffer(noise(48, 64).tobytes(), np.uint8).reshape(48, 64, 3)
    assert resize_with_pad(image, 24, 24).shape == (24, 24, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 3), np.float64), "image has dtype float64, expected uint8 or float32"),
        (np.zeros((4, 5, 3), np.int8), "image has dtype int8, expected uint8 or float32"),
        (np.zeros((4, 5), np.uint8), r"shape \[4, 5\], expected \[\.\.\., height, width, 3\] or "),
        (np.zeros((4, 5, 4), np.uint8), r"image has shape \[4, 5, 4\]"),
        (np.zeros((2, 4, 5, 4), np.uint8), r"image has shape \[2, 4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), "image is 0 rows by 5 columns, expected from 1"),
        ([[1, 2, 3]], "image is list, expected a numpy array"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(image, message):
    with pytest.raises(ImageError, match=message):
        resize_with_pad(image, 224, 224)


def test_a_target_of_no_size_is_refused():
    for height, width in [(0, 224), (224, 0), (1 << 40, 1)]:
        with pytest.raises(ImageError, match=f"image is {height} rows by {width} columns"):
            resize_with_pad(noise(4, 5), height, width)


def test_many_threads_resize_at_once():
    image = noise(480, 640)
    expected = resize_with_pad(image, 224, 224)
    wrong = []

    def work(seed):
        for number in range(20):
            resize_with_pad(noise(50 + seed, 60 + number), 33, 44)
            if not np.array_equal(resize_with_pad(image, 224, 224), expected):
                wrong.append((seed, number))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def longest_pause_of_another_thread(work):
    """How long another thread could not run during `work`, as a fraction of its time."""
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    try:
        work()
    finally:
        end = time.perf_counter()
        stop.set()
    thread.join()
    times = [start, *(at for at in ticks if start < at < end), end]
    return max(np.diff(times)) / (end - start)


def test_other_python_code_runs_while_images_are_worked_on(implementation):  # noqa: F811
    if implementation == "pure":
        pytest.skip("numpy decides by itself when it lets others run")
    image = noise(3000, 4000)
    raw = {"height": 3000, "width": 4000, "step": 12_000, "encoding": "bgr8"}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for work in (
            lambda: resize_with_pad(image, 2000, 2000),
            lambda: image_to_rgb(image, **raw),
        ):
            # one call that holds the GIL is one long pause, every time; a busy machine is not
            assert any(longest_pause_of_another_thread(work) < 0.5 for _ in range(20))
    finally:
        sys.setswitchinterval(interval)
