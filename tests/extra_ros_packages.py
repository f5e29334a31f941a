"""Builds the ROS packages of the tests, once for each run of pytest, and makes them importable.

rosidl takes about 40 s of one core for one of the two groups.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "ros_packages"
NAMES = ("control_msgs", "nav_msgs")
"""Those of grippers and bases."""
DRIVER_NAMES = ("controller_manager_msgs", "franka_msgs", "tf2_msgs", "ur_dashboard_msgs")
"""Those of what drivers say of their robots."""


@functools.cache
def build_extra_packages(names: tuple[str, ...] = NAMES) -> Path:
    """Build them into a temporary folder, and return their common prefix."""
    folder = Path(tempfile.mkdtemp(prefix="ros_packages_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = subprocess.run(
        [
            *("colcon", "--log-base", str(folder / "log"), "build", "--merge-install"),
            *("--build-base", str(folder / "build"), "--install-base", str(folder / "install")),
            *("--base-paths", *(str(FOLDER / name) for name in names)),
            *("--cmake-args", "-GNinja", "-Wno-dev"),
            f"-DCMAKE_PROJECT_INCLUDE={ROOT}/scripts/lib/ros_wheel_paths.cmake",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "install"


def extra_environment(names: tuple[str, ...] = NAMES) -> dict[str, str]:
    """The environment of a process that has these packages too."""
    prefix = build_extra_packages(names)
    return {
        **os.environ,
        "PYTHONPATH": _before("PYTHONPATH", _python(prefix)),
        "LD_LIBRARY_PATH": _before("LD_LIBRARY_PATH", prefix / "lib"),
        "AMENT_PREFIX_PATH": _before("AMENT_PREFIX_PATH", prefix),
    }


@functools.cache
def use_extra_packages(names: tuple[str, ...] = NAMES) -> None:
    """Make them importable in this process, which has started already."""
    prefix = build_extra_packages(names)
    sys.path.append(str(_python(prefix)))
    os.environ["LD_LIBRARY_PATH"] = extra_environment(names)["LD_LIBRARY_PATH"]
    # the loader has read LD_LIBRARY_PATH: what they need of each other must be there before
    left = sorted((prefix / "lib").glob("*.so"))
    while left:
        failed = [library for library in left if not _loads(library)]
        assert len(failed) < len(left), f"cannot load {', '.join(map(str, failed))}"
        left = failed


def _loads(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _python(prefix: Path) -> Path:
    (found,) = (prefix / "lib").glob("python3*/site-packages")
    return found


def _before(variable: str, path: Path) -> str:
    return os.pathsep.join(filter(None, (str(path), os.environ.get(variable, ""))))
