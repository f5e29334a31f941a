"""colcon builds this package in each of its modes, and what it installs works."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import flash_transport

SOURCE = Path(__file__).parents[2]
ROOT = SOURCE.parents[1]
PREFIX = Path(sys.prefix)

has_colcon = shutil.which("colcon") and (PREFIX / "share" / "ament_cmake_python").is_dir()
pytestmark = [
    pytest.mark.skipif(not has_colcon, reason="colcon and ament_cmake are not installed"),
    pytest.mark.timeout(900),
]

PROGRAM = """
import flash_transport
print(flash_transport.implementation, flash_transport.__file__)
print(flash_transport.unpackb(flash_transport.packb({"a": 1})))
"""


class Workspace:
    """A colcon workspace in a temporary folder that builds this checkout's flash_transport."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "FLASH_TRANSPORT_IMPLEMENTATION")
        }
        self.environment.update(AMENT_PREFIX_PATH=str(PREFIX), CMAKE_PREFIX_PATH=str(PREFIX))

    def hide_the_wheel(self):
        """An installation of flash_transport that another one cannot use."""
        shadow = self.folder / "shadow" / "flash_transport"
        shadow.mkdir(parents=True)
        (shadow / "__init__.py").write_text("raise ImportError('hidden by a test')\n")
        self.environment["PYTHONPATH"] = str(shadow.parent)

    def show_the_wheel(self):
        """The installation that this test runs with."""
        self.environment["PYTHONPATH"] = str(Path(flash_transport.__file__).parents[1])

    def hide_cargo(self):
        self.environment["HOME"] = str(self.folder)
        folders = self.environment["PATH"].split(os.pathsep)
        folders = [folder for folder in folders if not (Path(folder) / "cargo").exists()]
        self.environment["PATH"] = os.pathsep.join(folders)

    def build(self, *arguments, mode="auto"):
        command = ["colcon", "--log-base", "log", "build", "--base-paths", str(SOURCE)]
        command += ["--event-handlers", "console_direct+", "--cmake-args", "-GNinja"]
        command += [f"-DFLASH_TRANSPORT={mode}", *arguments]
        return subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, program=PROGRAM):
        """What a program prints in a shell that has sourced the workspace."""
        setup = self.folder / "install" / "local_setup.bash"
        command = f". {setup} && exec {sys.executable} -c '{program}'"
        return subprocess.run(
            ["bash", "-c", command],
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_an_installed_wheel_is_used_and_nothing_is_built(workspace):
    if flash_transport.implementation != "native":
        pytest.skip("there is no compiled half to be found")
    workspace.show_the_wheel()
    build = workspace.build()
    assert build.returncode == 0, build.stdout
    version = flash_transport.__version__
    assert f"using the wheel, flash_transport {version} in " in build.stdout
    assert list((workspace.folder / "install").rglob("flash_transport/__init__.py")) == []
    assert workspace.run().stdout.startswith("native ")


def test_without_wheel_and_cargo_python_alone_is_installed_and_says_so(workspace):
    workspace.hide_the_wheel()
    workspace.hide_cargo()
    build = workspace.build()
    assert build.returncode == 0, build.stdout
    message = " ".join(build.stdout.split())
    assert "flash_transport: Python alone (no wheel of flash_transport is installed" in message
    assert "no cargo was found" in message
    assert f"pip install flash_transport-{flash_transport.__version__}-*.whl" in message
    result = workspace.run()
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith(f"pure {workspace.folder}"), result.stderr
    assert second == "{'a': 1}"


def test_a_copy_of_an_earlier_build_is_not_taken_for_a_wheel(workspace):
    workspace.hide_the_wheel()
    workspace.hide_cargo()
    assert workspace.build().returncode == 0
    # as in a shell that has sourced the workspace and builds again
    installed = next((workspace.folder / "install").rglob("flash_transport/__init__.py"))
    shadow = workspace.environment["PYTHONPATH"]
    workspace.environment["PYTHONPATH"] = os.pathsep.join([str(installed.parents[1]), shadow])
    build = workspace.build("--no-warn-unused-cli")
    assert build.returncode == 0, build.stdout
    assert "no wheel of flash_transport is installed: hidden by a test" in " ".join(
        build.stdout.split()
    )


@pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not installed")
def test_cargo_builds_the_compiled_half(workspace):
    workspace.hide_the_wheel()
    # the profile and the folder of `cargo test`, to save minutes
    build = workspace.build(
        "-DFLASH_TRANSPORT_CARGO_PROFILE=dev",
        f"-DFLASH_TRANSPORT_CARGO_TARGET_DIR={ROOT / 'target'}",
        mode="cargo",
    )
    assert build.returncode == 0, build.stdout
    result = workspace.run()
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert first.startswith(f"native {workspace.folder}"), result.stderr
    assert second == "{'a': 1}"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("wheel", "FLASH_TRANSPORT=wheel, but no wheel of flash_transport is installed: hidden"),
        ("cargo", "FLASH_TRANSPORT=cargo, but no cargo was found; install Rust from https://"),
        ("conan", "FLASH_TRANSPORT is 'conan', expected auto, wheel, cargo or python"),
    ],
)
def test_a_mode_that_cannot_be_had_says_what_to_install(workspace, mode, message):
    workspace.hide_the_wheel()
    workspace.hide_cargo()
    build = workspace.build(mode=mode)
    assert build.returncode != 0
    assert message in " ".join(build.stdout.split())


def test_an_installation_whose_compiled_half_cannot_be_loaded_says_why_it_is_no_wheel(tmp_path):
    package = tmp_path / "flash_transport"
    without = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(SOURCE / "python" / "flash_transport", package, ignore=without)
    # as of a wheel for another computer
    (package / "_native.abi3.so").write_bytes(b"no library")
    result = subprocess.run(
        [sys.executable, SOURCE / "cmake/find_wheel.py", flash_transport.__version__, "/nowhere"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stderr
    assert f"flash_transport in {package} has no compiled half: " in result.stdout
    assert "_native.abi3.so: file too short" in result.stdout


def test_the_ros_package_has_the_version_of_the_python_one():
    version = ET.parse(SOURCE / "package.xml").getroot().findtext("version")
    assert version == flash_transport.__version__
