"""Draws a file of the black box: `python -m openpi_flash_robot.black_box.draw FILE`.

Needs matplotlib; the file is read without other packages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from openpi_flash_robot.black_box.contents import read_contents
from openpi_flash_robot.black_box.mcap_reader import NotABlackBoxError


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the command line names; the process's exit code."""
    options = _parser().parse_args(arguments)
    path: Path = options.file
    picture: Path = options.output or path.with_suffix(".png")
    try:
        from openpi_flash_robot.black_box.picture import draw
    except ImportError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        return _refused(
            "drawing needs matplotlib, which is not installed: `pip install matplotlib`, or "
            "`sudo apt install python3-matplotlib`"
        )
    try:
        contents = read_contents(path.read_bytes())
        draw(contents, picture, seconds=options.seconds)
    except NotABlackBoxError as error:
        return _refused(f"{path}: {error}")
    except OSError as error:
        return _refused(f"{error.filename}: {error.strerror}")
    sys.stdout.write(f"{picture}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="draw_black_box", description="Draw a file of the robot's black box as one picture."
    )
    parser.add_argument("file", type=Path, help="the .mcap file")
    parser.add_argument(
        "-o", "--output", type=Path, help="the picture; beside the file if it is not given"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="how much before the cause of the file is shown (default 10); 0 shows all of it",
    )
    return parser


def _refused(why: str) -> int:
    sys.stderr.write(f"error: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
