"""Image work of flash_transport against Pillow, as openpi's client uses it, in one interleaved run.

Each turn does the same work once in each way, in an order that rotates, so that a noisy moment
hits all alike. Times are CPU time of the one thread that works, which on an idle machine is the
time that passes.

usage: python benchmarks/images.py [--turns N] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
from matplotlib import cbook
from openpi_client import image_tools
from PIL import Image
from results_page import machine, replace_section

import flash_transport
from flash_transport import decode_image, encode_jpeg, image_to_rgb, resize_with_pad
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.plant import Plant

Work = Callable[[], object]

CAMERAS = {"640x480": (480, 640), "1280x720": (720, 1280), "1920x1080": (1080, 1920)}
JPEG_QUALITY = 92
PILLOW_QUALITY = 90
"""Of 4:4:4, which comes closest to as many dB as ours."""
MODEL_SIZE = (224, 224)


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing to do, in our way and, if there is one, in Pillow's."""

    name: str
    ours: Work
    theirs: Work | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What it took, in milliseconds."""

    row: Row
    ours: np.ndarray
    theirs: np.ndarray | None


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--write", type=Path, help="replace the tables in this Markdown file")
    args = parser.parse_args()
    photo = Image.open(sample_photo()).convert("RGB")
    results = [measure(row, args.turns, args.warm_up) for row in rows(photo)]
    text = describe(results, args.turns, photo)
    print(text)
    if args.write:
        replace_section(args.write, "images", text)


def sample_photo() -> Path:
    """The photograph that comes with matplotlib."""
    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


def rows(photo: Image.Image) -> list[Row]:
    """Everything that is measured."""
    cameras = {name: fill(photo, *size) for name, size in CAMERAS.items()}
    models = portraits(photo)
    small = [encode_jpeg(image, JPEG_QUALITY) for image in models]
    large = {name: pillow_jpeg(image, 90) for name, image in cameras.items()}
    return [
        *[
            Row(
                f"resize_with_pad {name} to 224x224",
                partial(resize_with_pad, image, *MODEL_SIZE),
                partial(image_tools.resize_with_pad, image, *MODEL_SIZE),
            )
            for name, image in cameras.items()
        ],
        Row(
            f"encode 3 images of 224x224, JPEG {JPEG_QUALITY} (Pillow: {PILLOW_QUALITY}, 4:4:4)",
            lambda: [encode_jpeg(image, JPEG_QUALITY) for image in models],
            lambda: [pillow_jpeg(image, PILLOW_QUALITY, subsampling=0) for image in models],
        ),
        Row(
            f"decode 3 images of 224x224, JPEG {JPEG_QUALITY}",
            lambda: [decode_image(data) for data in small],
            lambda: [pillow_decoded(data) for data in small],
        ),
        *[
            Row(
                f"CompressedImage {name} (JPEG 90) to 224x224",
                partial(ours_from_jpeg, data),
                partial(pillow_from_jpeg, data),
            )
            for name, data in large.items()
        ],
        *[
            Row(f"image_to_rgb {encoding} 640x480", work)
            for encoding, work in camera_messages(480, 640).items()
        ],
    ]


def camera_messages(height: int, width: int) -> dict[str, Work]:
    """Decoding of what cameras publish; the content does not matter."""
    data = np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8).tobytes()
    steps = {"bgr8": 3, "mono16": 2, "yuyv": 2, "nv12": 1, "bayer_rggb8": 1}
    return {
        encoding: partial(
            image_to_rgb, data, height=height, width=width, step=width * size, encoding=encoding
        )
        for encoding, size in steps.items()
    }


def measure(row: Row, turns: int, warm_up: int) -> Result:
    """Do the work in both ways, one after the other."""
    arms = [row.ours, *([row.theirs] if row.theirs else [])]
    taken: list[list[float]] = [[] for _ in arms]
    for turn in range(-warm_up, turns):
        for offset in range(len(arms)):
            index = (turn + offset) % len(arms)
            # everything happens on this thread, so that what other programs do does not count
            started = time.thread_time_ns()
            arms[index]()
            if turn >= 0:
                taken[index].append((time.thread_time_ns() - started) / 1e6)
    ours, *theirs = map(np.asarray, taken)
    return Result(row, ours, theirs[0] if theirs else None)


def describe(results: list[Result], turns: int, photo: Image.Image) -> str:
    """Return the Markdown table of a run, with the machine it ran on."""
    lines = [
        f"{machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Pillow {PIL.__version__}, "
        f"flash_transport {flash_transport.__version__}; CPU time of one thread, "
        f"n = {turns} per row and way, interleaved. The photograph is matplotlib's sample.",
        "",
        "| work | ours p50 ms | ours p99 ms | Pillow p50 ms | Pillow p99 ms | p50 ratio |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        p50, p99 = np.percentile(result.ours, [50, 99])
        if result.theirs is None:
            lines.append(f"| {result.row.name} | {p50:.2f} | {p99:.2f} | | | |")
            continue
        theirs_p50, theirs_p99 = np.percentile(result.theirs, [50, 99])
        lines.append(
            f"| {result.row.name} | {p50:.2f} | {p99:.2f} | {theirs_p50:.2f} | {theirs_p99:.2f} "
            f"| {theirs_p50 / p50:.1f}x |"
        )
    lines += [
        "",
        "Three images of 224x224 as JPEG, kB in all and dB of each:",
        "",
        f"| pictures | ours, {JPEG_QUALITY} | Pillow, 94 (4:2:0, its default) "
        f"| Pillow, {PILLOW_QUALITY} (4:4:4) |",
        "|---|---|---|---|",
    ]
    for name, images in pictures(photo).items():
        ways = [
            [encode_jpeg(image, JPEG_QUALITY) for image in images],
            [pillow_jpeg(image, 94) for image in images],
            [pillow_jpeg(image, PILLOW_QUALITY, subsampling=0) for image in images],
        ]
        cells = [size_and_quality(files, images) for files in ways]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def size_and_quality(files: list[bytes], images: list[np.ndarray]) -> str:
    """How large the files are, and how much of the images is in them."""
    quality = [psnr(pillow_decoded(data), image) for data, image in zip(files, images, strict=True)]
    return f"{sum(map(len, files)) / 1000:.1f} kB, {', '.join(f'{dB:.1f}' for dB in quality)}"


def pictures(photo: Image.Image) -> dict[str, list[np.ndarray]]:
    """What robots see, or could."""
    return {
        "a portrait, whole and two parts": portraits(photo),
        **photographs(),
        "the demo's cameras: scene, wrist, and scene of another start": renderings(),
    }


def portraits(photo: Image.Image) -> list[np.ndarray]:
    """Three images as a model sees them: the whole scene, and two closer ones."""
    whole = fill(photo, *MODEL_SIZE)
    near = fill(photo.crop((80, 40, 430, 390)), *MODEL_SIZE)
    side = fill(photo.crop((150, 250, 500, 600)), *MODEL_SIZE)
    return [whole, near, side]


def photographs() -> dict[str, list[np.ndarray]]:
    """Those of scikit-image, if it is installed."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "data"
    names = "astronaut.png", "coffee.png", "rocket.jpg"
    images = [fill(Image.open(folder / name).convert("RGB"), *MODEL_SIZE) for name in names]
    return {"scikit-image's astronaut, coffee, rocket": images}


def renderings() -> list[np.ndarray]:
    """The first frames of the demo, as its client sends them."""
    try:
        os.environ["MUJOCO_GL"] = choose_gl_backend()
    except RenderingUnavailableError as error:
        raise SystemExit(f"the demo's cameras cannot be drawn: {error}") from None
    # mujoco reads the variable when it is imported
    from sim_robot.cameras import Cameras

    with Cameras(Plant().model) as cameras:
        frames = cameras.render(Plant().snapshot())
        images = [frames["scene"].copy(), frames["wrist"].copy()]
        images.append(cameras.render(Plant(seed=3).snapshot())["scene"].copy())
    return [resize_with_pad(image, *MODEL_SIZE) for image in images]


def fill(photo: Image.Image, height: int, width: int) -> np.ndarray:
    """The middle of the photograph in this size."""
    scale = max(width / photo.width, height / photo.height)
    size = max(width, round(photo.width * scale)), max(height, round(photo.height * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    scaled = photo.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + width, top + height)))


def pillow_jpeg(image: np.ndarray, quality: int, subsampling: int = 2) -> bytes:
    """A JPEG as libjpeg-turbo makes it, by default 4:2:0."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def ours_from_jpeg(data: bytes) -> np.ndarray:
    """From a camera's JPEG to what the model sees."""
    return resize_with_pad(decode_image(data, at_least=(448, 448)), *MODEL_SIZE)


def pillow_from_jpeg(data: bytes) -> np.ndarray:
    """The same with Pillow."""
    small: np.ndarray = image_tools.resize_with_pad(pillow_decoded(data), *MODEL_SIZE)
    return small


def pillow_decoded(data: bytes) -> np.ndarray:
    """A JPEG as an array."""
    return np.asarray(Image.open(io.BytesIO(data)))


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal to noise, dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other.astype(float)) ** 2)))


if __name__ == "__main__":
    main()
