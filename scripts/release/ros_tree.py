"""The ROS packages as bloom needs them: each folder complete in itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BRING_UP = "openpi_flash"
BRING_UP_FOLDERS = ("launch", "config", "examples/sim_robot")
"""What the bring-up package installs from elsewhere in the repository."""


def packages(root: Path = ROOT) -> list[str]:
    """The names of the ROS packages."""
    return sorted(path.parent.name for path in root.glob("src/*/package.xml"))


def write(target: Path, root: Path = ROOT) -> list[Path]:
    """Copy the ROS packages to the new folder `target`; returns the files, relative to it.

    Only files that git tracks are copied; links become the files that they name. Each package gets
    LICENSE, as Debian packages must hold it. Raises FileExistsError if `target` exists.
    """
    target.mkdir(parents=True)
    for name in packages(root):
        for file in _tracked(root, f"src/{name}"):
            _copy(root / file, target / name / file.relative_to(f"src/{name}"))
        _copy(root / "LICENSE", target / name / "LICENSE")
    for folder in BRING_UP_FOLDERS:
        for file in _tracked(root, folder):
            _copy(root / file, target / BRING_UP / file)
    return sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())


def _tracked(root: Path, folder: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", folder],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [Path(name) for name in listing.stdout.split("\0") if name and (root / name).is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]))
    except FileExistsError:
        sys.exit(f"error: {sys.argv[1]} exists already; name a new folder")
