"""One version everywhere, and what `scripts/version` does to make it so."""

import re
import shutil
import subprocess
from datetime import date
from itertools import chain

import pytest
import tomllib

from release import __main__ as program
from release import changelog, version

ROOT = version.ROOT
catkin_warns = pytest.mark.filterwarnings("ignore:nodes.Node.traverse:DeprecationWarning")


@pytest.fixture
def checkout(tmp_path):
    """The files that hold the version, and the changelogs."""
    paths = [place.path for place in (version.SOURCE, *version.COPIES)]
    paths += ["CHANGELOG.md"]
    paths += [str(path.relative_to(ROOT)) for path in changelog.ros_changelogs(ROOT)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_all_manifests_have_the_version_of_cargo():
    assert version.disagreements() == []


def test_every_manifest_of_this_repository_is_checked():
    listing = subprocess.run(
        ["git", "ls-files", "*package.xml", "*pyproject.toml", "*setup.py", "*Cargo.toml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    repeating = {
        path
        for path in listing.stdout.split()
        if re.search(r"^\s*<?version\W{1,3}\d", (ROOT / path).read_text(), re.MULTILINE)
    }
    # made by tests, or never released
    repeating -= {path for path in repeating if "tests/" in path or "/fuzz/" in path}
    places = {place.path for place in (version.SOURCE, *version.COPIES)}
    assert repeating <= places


def test_the_package_that_people_install_names_one_version_of_every_part():
    path = ROOT / "packaging/openpi-flash/pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    needed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    ours = [line for line in needed if not line.startswith("jax")]
    assert all(line.endswith(f"=={version.current()}") for line in ours)
    names = {re.split(r"[\[=]", line)[0] for line in ours}
    assert names == {
        "flash_transport",
        "openpi_flash_models",
        "openpi_flash_server",
        "openpi_flash_training",
    }
    for line in ours:
        name, _, extras = line.partition("==")[0].rstrip("]").partition("[")
        member = tomllib.loads((ROOT / "src" / name / "pyproject.toml").read_text())["project"]
        assert set(filter(None, extras.split(","))) <= set(member.get("optional-dependencies", ()))


def test_a_new_version_is_written_everywhere(checkout):
    changed = version.write("12.3.45", checkout)
    assert set(changed) == {place.path for place in (version.SOURCE, *version.COPIES)}
    assert version.current(checkout) == "12.3.45"
    assert version.disagreements(checkout) == []
    lock = tomllib.loads((checkout / "uv.lock").read_text())
    others = tomllib.loads((ROOT / "uv.lock").read_text())
    for new, old in zip(lock["package"], others["package"], strict=True):
        changed = new.get("version") != old.get("version")
        assert changed == (new["name"].startswith("openpi-flash-") and "version" in old)


def test_a_file_that_disagrees_is_named(checkout, capsys):
    path = checkout / "src/openpi_flash_msgs/package.xml"
    path.write_text(path.read_text().replace(version.current(), "9.9.9"))
    assert program.main(["--check"], checkout) == 1
    assert "src/openpi_flash_msgs/package.xml: version 9.9.9" in capsys.readouterr().err


def test_a_file_without_a_version_stops_before_anything_is_written(checkout):
    path = checkout / "src/openpi_flash_robot/setup.py"
    path.write_text("setup()\n")
    before = version.current(checkout)
    with pytest.raises(version.VersionError, match=r"setup\.py: 0 versions found, expected 1"):
        version.write("1.2.3", checkout)
    assert version.current(checkout) == before


@pytest.mark.parametrize("text", ["1.2", "v1.2.3", "1.2.3rc1", "01.2.3", "1.2.3.4", ""])
def test_versions_that_not_all_package_formats_accept_are_refused(text):
    with pytest.raises(version.VersionError, match=r"expected X\.Y\.Z"):
        version.parse(text)


@catkin_warns
def test_a_release_closes_the_changelogs_and_has_notes(checkout, capsys):
    catkin_changelog = pytest.importorskip("catkin_pkg.changelog")
    assert program.main(["1.2.3"], checkout) == 0
    capsys.readouterr()
    assert program.main(["--notes"], checkout) == 0
    said = capsys.readouterr().out
    assert said.startswith("### ")
    assert "\n## " not in said
    assert (
        f"## Unreleased\n\n## 1.2.3 ({date.today().isoformat()})\n"
        in (checkout / "CHANGELOG.md").read_text()
    )
    for path in changelog.ros_changelogs(checkout):
        read = catkin_changelog.get_changelog_from_path(str(path))
        assert [number for number, _, _ in read.foreach_version()] == ["1.2.3"]


@catkin_warns
def test_a_ros_package_without_changes_gets_a_section_that_says_so(checkout):
    catkin_changelog = pytest.importorskip("catkin_pkg.changelog")
    for number in ("1.2.3", "1.2.4"):
        changelog.close(checkout, number, date(2026, 1, 2))
    for path in changelog.ros_changelogs(checkout):
        read = catkin_changelog.get_changelog_from_path(str(path))
        assert {number for number, _, _ in read.foreach_version()} == {"1.2.4", "1.2.3"}
        assert path.read_text().index("1.2.4 (") < path.read_text().index("1.2.3 (")
        assert "No changes of its own" in str(read.get_content_of_version("1.2.4")[0])


def test_notes_of_a_version_without_a_section_are_an_error():
    with pytest.raises(changelog.ChangelogError, match="no section '## 7.7.7'"):
        changelog.notes("# Changelog\n\n## Unreleased\n\n- A change.\n", "7.7.7")


def test_every_ros_package_has_a_changelog():
    packages = {path.parent for path in ROOT.glob("src/*/package.xml")}
    assert packages == {path.parent for path in changelog.ros_changelogs(ROOT)}
