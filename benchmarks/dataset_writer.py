"""Writes the same dataset by openpi_flash_training and by lerobot, in turns.

Each turn is a process of its own: its CPU time is counted from the first episode to the finished
dataset, encoders included. lerobot has dependencies that this workspace does not live with, so it
runs in an environment of its own.

usage: python benchmarks/dataset_writer.py --lerobot /path/to/venv/bin/python [--write PAGE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FPS, FRAMES, SIZE, JOINTS = 15, 100, 224, 14
CAMERAS = ("observation.images.scene", "observation.images.wrist")
WRITERS = ("ours", "lerobot")


def main() -> None:
    """Run all turns and print the table; or one turn, as a child."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--lerobot", help="a Python that has lerobot")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the table in this Markdown file")
    parser.add_argument("--one", choices=WRITERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_turn(args.one, args.episodes)))
        return
    if not args.lerobot:
        parser.error("--lerobot is missing")
    pythons = {"ours": sys.executable, "lerobot": args.lerobot}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in WRITERS}
    for turn in range(args.turns):
        for name in WRITERS if turn % 2 == 0 else reversed(WRITERS):
            results[name].append(run(pythons[name], name, args.episodes))
    text = describe(results, args.episodes, args.turns)
    print(text)
    if args.write:
        from results_page import replace_section

        replace_section(args.write, "dataset-writer", text)


def run(python: str, name: str, episodes: int) -> dict[str, Any]:
    """One turn in a process of its own."""
    environment = dict(os.environ)
    if name == "lerobot":
        environment.pop("PYTHONPATH", None)
        environment["HF_HUB_OFFLINE"] = "1"
    command = [python, __file__, "--one", name, "--episodes", str(episodes)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one_turn(name: str, episodes: int) -> dict[str, Any]:
    """Write the dataset and count."""
    images, numbers = content()
    write = write_ours if name == "ours" else write_lerobot
    with tempfile.TemporaryDirectory() as folder:
        before, began = cpu_seconds(), time.monotonic()
        version = write(Path(folder) / "set", episodes, images, numbers)
        seconds, cpu = time.monotonic() - began, cpu_seconds() - before
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {"seconds": seconds, "cpu": cpu, "bytes": size, "version": version}


def content() -> tuple[np.ndarray, np.ndarray]:
    """A moving pattern with the noise of a camera, [T, H, W, 3], and numbers [T, D]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pattern = 127 + 60 * np.sin(columns / 17)[..., None] + 40 * np.cos(rows / 11)[..., None]
    image = pattern * np.array([1.0, 0.8, 0.6]) + rng.normal(0, 3, (SIZE, SIZE, 3))
    image = np.clip(image, 0, 255).astype(np.uint8)
    images = np.stack([np.roll(image, step, axis=1) for step in range(FRAMES)])
    return images, rng.normal(size=(FRAMES, JOINTS)).astype(np.float32)


def write_ours(folder: Path, episodes: int, images: np.ndarray, numbers: np.ndarray) -> str:
    """Write by openpi_flash_training."""
    from openpi_flash_training import __version__
    from openpi_flash_training.dataset.feature import Feature
    from openpi_flash_training.dataset.writer import DatasetWriter

    features = {
        "observation.state": Feature("float32", (JOINTS,)),
        "action": Feature("float32", (JOINTS,)),
        **{camera: Feature("video", (SIZE, SIZE, 3)) for camera in CAMERAS},
    }
    with DatasetWriter(folder, FPS, features) as writer:
        for _ in range(episodes):
            writer.add_episode(
                "task",
                {"observation.state": numbers, "action": numbers},
                dict.fromkeys(CAMERAS, images),
            )
    return __version__


def write_lerobot(folder: Path, episodes: int, images: np.ndarray, numbers: np.ndarray) -> str:
    """Write by lerobot, as its recording script does."""
    import lerobot
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (JOINTS,), "names": None}
    picture = {"dtype": "video", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    features = {"observation.state": vector, "action": vector, **dict.fromkeys(CAMERAS, picture)}
    data = LeRobotDataset.create("local/set", FPS, features, root=folder)
    for _ in range(episodes):
        for image, row in zip(images, numbers, strict=True):
            frame = {"observation.state": row, "action": row, "task": "task"}
            data.add_frame({**frame, **dict.fromkeys(CAMERAS, image)})
        data.save_episode()
    data.finalize()
    return str(lerobot.__version__)


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def describe(results: dict[str, list[dict[str, Any]]], episodes: int, turns: int) -> str:
    """The table."""
    from results_page import machine

    frames = episodes * FRAMES
    lines = [
        f"{machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {episodes} episodes "
        f"of {FRAMES} frames, two cameras of {SIZE}x{SIZE} as video, n = {turns} turns, "
        "interleaved; medians.",
        "",
        "| writer | frames per CPU second | frames per second | kB a frame |",
        "|---|---|---|---|",
    ]
    for name, turns_of in results.items():
        cpu, seconds, size = (
            float(np.median([turn[key] for turn in turns_of]))
            for key in ("cpu", "seconds", "bytes")
        )
        label = "openpi_flash_training" if name == "ours" else "lerobot"
        lines.append(
            f"| {label} {turns_of[0]['version']} | {frames / cpu:.0f} | {frames / seconds:.0f} | "
            f"{size / frames / 1024:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
