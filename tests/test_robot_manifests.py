"""The robot's packages name what they use, rosdep knows it, and CI and pages agree on where."""

import ast
import re
import subprocess
import xml.etree.ElementTree as ET

import pytest
import yaml
from robot_manifests import DISTRIBUTIONS, MANIFESTS, ROOT, ROS_KEYS, SYSTEM_KEYS

from import_rules import ROS_MODULES

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ros.yml").read_text())
PAGE = (ROOT / "docs/distributions.md").read_text()
OURS = {path.parent.name for path in MANIFESTS}
OPTIONAL = {
    "control_msgs",
    "controller_manager_msgs",
    "cv_bridge",
    "franka_msgs",
    "ur_dashboard_msgs",
}
"""Imported where they are needed, with an error that says what to install."""
SHARED_FOLDERS = {"openpi_flash": ["launch", "examples/sim_robot"]}
MODULES = {"numpy": "python3-numpy", "yaml": "python3-yaml", "hypothesis": "python3-hypothesis"}
MODULES |= {name: name for name in ROS_MODULES | {"launch", "launch_ros", "rosgraph_msgs"}}


def keys_of(manifest, *, tests=True):
    root = ET.parse(manifest).getroot()
    return {
        element.text.strip()
        for element in root
        if "depend" in element.tag and (tests or element.tag != "test_depend")
    }


def imported(folder):
    """The modules that are imported anywhere in a folder."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def needed(folders):
    modules = set().union(*(imported(folder) for folder in folders))
    return {MODULES[name] for name in modules if name in MODULES} - OPTIONAL - OURS


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_rosdep_knows_every_key(manifest):
    unknown = keys_of(manifest) - OURS - SYSTEM_KEYS - ROS_KEYS
    assert not unknown, (
        f"{manifest}: look {sorted(unknown)} up in ros/rosdistro, then add to robot_manifests.py"
    )


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_package_names_what_its_code_imports(manifest):
    package = manifest.parent
    folders = [package / package.name, package / "python"]
    folders += [ROOT / folder for folder in SHARED_FOLDERS.get(package.name, ())]
    assert needed(folders) <= keys_of(manifest, tests=False)


@pytest.mark.parametrize("name", ["openpi_flash_robot", "openpi_flash_client_node"])
def test_a_package_names_what_its_tests_import(name):
    manifest = ROOT / "src" / name / "package.xml"
    assert needed([manifest.parent / "test"]) <= keys_of(manifest)
    assert {"python3-pytest", "python3-pytest-timeout"} <= keys_of(manifest)


def test_the_list_of_keys_holds_none_that_nobody_names():
    named = set().union(*map(keys_of, MANIFESTS))
    assert named >= SYSTEM_KEYS | ROS_KEYS


def test_no_condition_of_a_manifest_names_another_distribution():
    text = "".join(path.read_text() for path in MANIFESTS)
    named = re.findall(r"\$ROS_DISTRO\s*[=!<>]+\s*(\w+)", text)
    assert set(named) <= set(DISTRIBUTIONS)


def test_ci_runs_on_every_distribution():
    job = WORKFLOW["jobs"]["test"]
    assert tuple(job["strategy"]["matrix"]["distribution"]) == DISTRIBUTIONS
    assert job["container"] == "ros:${{ matrix.distribution }}-ros-base"


def test_ci_tests_packages_that_exist():
    assert set(WORKFLOW["jobs"]["test"]["env"]["PACKAGES"].split()) == OURS - {"flash_transport"}


def test_ci_starts_when_a_package_changes():
    # yaml reads the key `on` as true
    paths = WORKFLOW[True]["pull_request"]["paths"]
    assert {f"src/{name}/**" for name in OURS} <= set(paths)
    for path in paths:
        assert list(ROOT.glob(path.removesuffix("/**"))), path


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")))
def test_a_workflow_needs_jobs_and_files_that_exist(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    uploaded = set()
    for job in jobs.values():
        needs = job.get("needs", [])
        assert ({needs} if isinstance(needs, str) else set(needs)) <= set(jobs)
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert "@" in step.get("uses", "@"), step
            if "upload-artifact" in step.get("uses", ""):
                uploaded.add(step["with"]["name"])
            if "download-artifact" in step.get("uses", "") and "name" in step["with"]:
                assert step["with"]["name"] in uploaded
            told = subprocess.run(
                ["bash", "-n", "-c", re.sub(r"\$\{\{.*?\}\}", "X", step.get("run", ""))],
                capture_output=True,
                text=True,
                check=False,
            )
            assert told.returncode == 0, told.stderr


def test_the_page_has_a_row_for_every_distribution():
    rows = re.findall(r"^\| \*\*(\w+)\*\* \|", PAGE, re.MULTILINE)
    assert tuple(name.lower() for name in rows) == DISTRIBUTIONS


@pytest.mark.parametrize("page", ["README.md", "docs/robot.md", "docs/distributions.md"])
def test_a_page_names_the_first_and_no_unknown_distribution(page):
    text = (ROOT / page).read_text()
    assert "Humble" in text
    for ended in ("Foxy", "Galactic", "Iron"):
        assert ended not in text
