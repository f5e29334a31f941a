"""The folders that bloom releases are complete in themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from release import ros_tree

ROOT = ros_tree.ROOT
PREFIX = Path(sys.prefix)
has_colcon = shutil.which("colcon") and (PREFIX / "share" / "ament_cmake").is_dir()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The folder that `scripts/ros-release` makes."""
    target = tmp_path_factory.mktemp("ros_release") / "packages"
    ros_tree.write(target)
    return target


def test_each_package_has_manifest_changelog_and_licence_and_no_links(tree):
    assert sorted(path.name for path in tree.iterdir()) == ros_tree.packages()
    for package in tree.iterdir():
        for name in ("package.xml", "CHANGELOG.rst", "LICENSE"):
            assert (package / name).is_file(), package / name
    assert [path for path in tree.rglob("*") if path.is_symlink()] == []


def test_an_existing_folder_is_not_written_to(tree):
    with pytest.raises(FileExistsError):
        ros_tree.write(tree)


@pytest.mark.skipif(not has_colcon, reason="colcon and ament_cmake are not installed")
def test_the_bring_up_package_installs_the_same_files_away_from_the_repository(tree, tmp_path):
    shutil.copytree(tree / "openpi_flash", tmp_path / "openpi_flash")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"AMENT_PREFIX_PATH": str(PREFIX), "CMAKE_PREFIX_PATH": str(PREFIX)}
    build = subprocess.run(
        ["colcon", "--log-base", "log", "build", "--base-paths", ".", "--cmake-args", "-GNinja"],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    share = tmp_path / "install/openpi_flash/share/openpi_flash"
    for folder in ros_tree.BRING_UP_FOLDERS:
        source = ROOT / folder
        expected = {
            path.relative_to(source)
            for path in source.rglob("*")
            if path.is_file() and not {"__pycache__", ".mypy_cache"} & set(path.parts)
        }
        installed = {path.relative_to(share / folder) for path in (share / folder).rglob("*.*")}
        assert expected <= installed
