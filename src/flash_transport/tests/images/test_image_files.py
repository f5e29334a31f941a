"""JPEG and PNG, against Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flash_transport import ImageError, decode_image, encode_jpeg, jpeg_message, unpackb
from flash_transport import packb as pack

PORTRAIT = Path(__file__).parents[1] / "data" / "grace_hopper.jpg"
"""James S. Davis, United States Navy, 1984: in the public domain."""


def scene(height, width):
    """Soft shapes, edges and a little noise, as a camera sees them."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(5 * x * y + 1)], -1)
    boxes = 40 * ((x * 11).astype(int) + (y * 9).astype(int) & 1)[..., None]
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 1))
    return (110 + 60 * waves + boxes + noise).clip(0, 255).astype(np.uint8)


def file_of(image, kind="PNG", **options):
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, kind, **options)
    return out.getvalue()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def psnr(one, other):
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95, "subsampling": 0},
        {"quality": 80, "subsampling": 1},
        {"quality": 60, "subsampling": 2},
        {"quality": 90, "progressive": True},
        {"quality": 90, "restart_marker_blocks": 3},
        {"quality": 90, "optimize": True},
    ],
    ids=["4:4:4", "4:2:2", "4:2:0", "progressive", "restarts", "optimized"],
)
@pytest.mark.parametrize(("height", "width"), [(120, 160), (37, 53), (1, 1), (17, 8)])
def test_a_jpeg_is_decoded_as_by_pillow(height, width, options):
    data = file_of(scene(height, width), "JPEG", **options)
    image = decode_image(data)
    assert (image.dtype, image.shape) == (np.uint8, (height, width, 3))
    # both approximate the cosine transform and the colours between two samples
    assert psnr(image, pillow(data)) > 38


def test_a_grey_jpeg_has_three_equal_colours():
    data = file_of(Image.fromarray(scene(40, 60)).convert("L"), "JPEG", quality=95)
    image = decode_image(data)
    assert np.array_equal(image, np.repeat(image[..., :1], 3, -1))
    assert np.abs(image.astype(int) - pillow(data)).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_is_decoded_exactly(mode):
    data = file_of(Image.fromarray(scene(37, 53)).convert(mode))
    assert np.array_equal(decode_image(data), pillow(data))


def test_transparent_pixels_of_a_png_keep_their_colour():
    pixels = np.dstack([scene(8, 8), np.zeros((8, 8), np.uint8)])
    assert np.array_equal(decode_image(file_of(pixels)), pixels[..., :3])


def test_a_grey_png_of_sixteen_bits_becomes_the_nearest_of_eight():
    grey = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)
    image = decode_image(file_of(grey))
    assert np.array_equal(image, np.repeat(expected[..., None], 3, -1))


def test_a_jpeg_of_a_larger_camera_is_decoded_to_a_part_of_its_size():
    whole = scene(723, 1281)
    data = file_of(whole, "JPEG", quality=95)
    for at_least, shape in [
        ((91, 161), (91, 161)),
        ((91, 1000), (91, 161)),
        ((1000, 161), (91, 161)),
        ((92, 162), (181, 321)),
        ((362, 641), (362, 641)),
        ((363, 642), (723, 1281)),
        ((4000, 4000), (723, 1281)),
    ]:
        image = decode_image(data, at_least=at_least)
        assert image.shape == (*shape, 3), at_least
        half = Image.fromarray(whole).resize(shape[::-1], Image.Resampling.BOX)
        assert psnr(image, np.asarray(half)) > 30


def test_only_rgb_jpegs_are_decoded_to_a_part():
    grey = file_of(Image.fromarray(scene(200, 300)).convert("L"), "JPEG")
    assert decode_image(grey, at_least=(50, 50)).shape == (200, 300, 3)
    assert decode_image(file_of(scene(200, 300)), at_least=(50, 50)).shape == (200, 300, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"encoded image is 0 bytes that start with \[\], expected a JPEG \(ff d8\) or a PNG"),
        (b"GIF89a", r"encoded image is 6 bytes that start with \[47, 49, 46, 38\]"),
        (b"\xff\xd8", "jpeg of 2 bytes cannot be decoded: "),
        (b"\x89PNG\r\n\x1a\n", "png of 8 bytes cannot be decoded: "),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_is(data, message):
    with pytest.raises(ImageError, match=message):
        decode_image(data)


@pytest.mark.parametrize("at_least", [None, (16, 16)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(kind, at_least):
    data = file_of(scene(64, 64), kind)
    assert decode_image(data, at_least=at_least).size
    for end in range(2, len(data) - (14 if kind == "PNG" else 0), 13):
        with pytest.raises(ImageError):
            decode_image(data[:end], at_least=at_least)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_file_is_refused_or_decoded_to_its_size(kind):
    data = file_of(scene(48, 64), kind)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(2, len(data), 3):
            damaged[at] = random.integers(256)
        try:
            image = decode_image(damaged, at_least=(20, 20), max_bytes=1 << 20)
        except ImageError:
            refused += 1
        else:
            assert image.shape[2] == 3
    assert refused > 0


def test_an_image_that_is_large_only_when_decoded_is_refused_before_it_is():
    bomb = file_of(Image.new("1", (20000, 20000)))
    assert len(bomb) < 100_000
    message = "png of 20000 rows by 20000 columns is 1200000000 bytes when decoded, expected at m"
    with pytest.raises(ImageError, match=message):
        decode_image(bomb)
    small = file_of(scene(10, 10), "JPEG")
    with pytest.raises(ImageError, match="is 300 bytes when decoded, expected at most 299"):
        decode_image(small, max_bytes=299)
    assert decode_image(small, max_bytes=300).shape == (10, 10, 3)


def chw(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def step(quality):
    return max(1, min(255, 2500 // quality if quality < 50 else 100 - quality))


@pytest.mark.parametrize("quality", [1, 20, 50, 92, 95, 100])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (1, 1), (37, 53), (8, 17), (16, 16)])
def test_what_is_encoded_is_nearly_what_pillow_would_have_made_in_these_steps(
    height, width, quality
):
    image = scene(height, width)
    data = encode_jpeg(image, quality)
    tables = [[step(quality)] * 64] * 2
    theirs = file_of(image, "JPEG", qtables=tables, subsampling=0, optimize=True)
    found = Image.open(io.BytesIO(data))
    assert found.quantization == {0: tables[0]}
    assert [layer[1:3] for layer in found.layer] == [(1, 1)] * 3
    # of a few pixels, the rounding of each counts; in the finest steps, all levels are the nearest
    margin = 6 if image.size < 1000 else 0.3 if quality == 100 else 0.8
    assert psnr(pillow(data), image) > min(50, psnr(pillow(theirs), image)) - margin
    assert len(data) <= len(theirs) + 16
    assert encode_jpeg(chw(image), quality) == data
    assert encode_jpeg(image[::-1][::-1], quality) == data


@pytest.mark.parametrize("quality", [95, 100])
@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
)
def test_the_edges_of_the_range_come_through(colour, quality):
    image = np.full((16, 24, 3), colour, np.uint8)
    assert np.abs(pillow(encode_jpeg(image, quality)).astype(int) - image).max() <= 2


@pytest.mark.parametrize("quality", [1, 94, 100])
def test_noise_needs_every_symbol_and_comes_through(quality):
    noise = np.random.default_rng(0).integers(0, 2, (64, 72, 3), np.uint8) * 255
    image = pillow(encode_jpeg(noise, quality))
    assert image.shape == noise.shape
    assert quality < 100 or psnr(image, noise) > 40


def photographs():
    """The whole of a portrait and two parts of it, as large as models see them."""
    photo = Image.open(PORTRAIT).convert("RGB")
    boxes = (0, 44, 512, 556), (80, 40, 430, 390), (150, 250, 500, 600)
    return [
        np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC, box=box)) for box in boxes
    ]


def test_three_photographs_are_small_and_good():
    images = photographs()
    files = [encode_jpeg(image) for image in images]
    assert sum(map(len, files)) <= 60_000
    for data, image in zip(files, images, strict=True):
        assert min(psnr(decode_image(data), image), psnr(pillow(data), image)) >= 38


@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_photograph_comes_closer_in_as_many_bytes_than_with_tables_for_eyes(subsampling):
    for image in photographs():
        ours = encode_jpeg(image)
        files = (
            file_of(image, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
            for quality in range(99, 50, -1)
        )
        theirs = next(data for data in files if len(data) <= len(ours))
        assert psnr(pillow(ours), image) > psnr(pillow(theirs), image) + 1


@pytest.mark.parametrize("quality", [70, 92, 95])
def test_a_photograph_comes_closer_in_as_many_bytes_than_if_levels_were_the_nearest(quality):
    for image in photographs():
        ours = encode_jpeg(image, quality)
        files = (
            file_of(image, "JPEG", qtables=[[step] * 64] * 2, subsampling=0, optimize=True)
            for step in range(1, 64)
        )
        theirs = next(data for data in files if len(data) <= len(ours))
        assert psnr(pillow(ours), image) > psnr(pillow(theirs), image) + 0.2


@pytest.mark.parametrize(
    ("image", "quality", "message"),
    [
        (np.zeros((4, 5, 3), np.float32), 95, "image has dtype float32, expected uint8$"),
        (np.zeros((2, 4, 5, 3), np.uint8), 95, r"shape \[2, 4, 5, 3\], expected one image"),
        (np.zeros((4, 5), np.uint8), 95, r"image has shape \[4, 5\]"),
        (np.zeros((4, 5, 3), np.uint8), 0, "jpeg quality is 0, expected from 1 to 100"),
        (np.zeros((4, 5, 3), np.uint8), 101, "jpeg quality is 101, expected from 1 to 100"),
        (np.zeros((1, 65536, 3), np.uint8), 9, "65536 columns, a jpeg has at most 65535"),
        ([[1, 2, 3]], 95, "image is list, expected a numpy array"),
    ],
)
def test_what_cannot_be_encoded_is_refused(image, quality, message):
    with pytest.raises(ImageError, match=message):
        encode_jpeg(image, quality)


def test_a_message_holds_the_file_and_says_how_the_image_lay():
    image = scene(24, 32)
    assert jpeg_message(image, 90) == {"__image__": "jpeg", "data": encode_jpeg(image, 90)}
    assert jpeg_message(chw(image)) == {
        "__image__": "jpeg",
        "data": encode_jpeg(image, 92),
        "layout": "chw",
    }
    message = {"observation/image": jpeg_message(image)}
    assert unpackb(pack(message)) == message
