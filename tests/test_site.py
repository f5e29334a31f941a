"""The documentation site is built from the repository's pages without a warning."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import PurePosixPath

import pytest

from release import site

ROOT = site.ROOT
PAGES = frozenset({PurePosixPath("README.md"), PurePosixPath("docs/robot.md")})
needs_mkdocs = pytest.mark.skipif(importlib.util.find_spec("material") is None, reason=site.MISSING)


def page(text, name="docs/server.md"):
    return site.page(text, PurePosixPath(name), PAGES, "https://example.org/flash")


def test_links_between_pages_stay_and_others_lead_to_the_repository():
    text = "[a](robot.md#arms), [b](../README.md), [c](../config), [d](x.csv#L3), [e](images/a.png)"
    assert page(text) == (
        "[a](robot.md#arms), [b](../README.md), "
        "[c](https://example.org/flash/blob/main/config), "
        "[d](https://example.org/flash/blob/main/docs/x.csv#L3), [e](images/a.png)\n"
    )


def test_links_to_elsewhere_and_within_the_page_stay():
    text = "[a](https://a.org/b), [c](#planner), [d](mailto:a@b.c)\n"
    assert page(text) == text


def test_code_is_left_alone():
    text = "```\ntext\n- [x](../config)\n```\n"
    assert page(text) == text


def test_a_fence_keeps_its_language_only():
    assert page("```yaml config\na: ``` b\n```\n") == "```yaml\na: ``` b\n```\n"


def test_a_list_right_behind_a_paragraph_is_one():
    assert page("Two:\n- a\n  more\n- b\n") == "Two:\n\n- a\n  more\n- b\n"


def test_every_page_that_the_contents_name_in_order_comes_first(tmp_path):
    names = [PurePosixPath("README.md"), *(PurePosixPath(f"docs/{n}.md") for n in ("new", "robot"))]
    contents = site.navigation(names)
    assert contents[0] == {"openpi-flash": "README.md"}
    assert contents[1] == {"Robot engineers": ["docs/robot.md"]}
    assert {"More": ["docs/new.md"]} in contents


def test_links_of_the_pages_lead_to_files_that_exist():
    for path in [*(ROOT / name for name in site.ROOT_PAGES), *(ROOT / "docs").glob("*.md")]:
        is_code = False
        for line in path.read_text().splitlines():
            is_code ^= line.lstrip().startswith("```")
            for match in site.LINK.finditer("" if is_code else line):
                assert (path.parent / match["path"]).exists(), f"{path.name}: {match['path']}"


@needs_mkdocs
@pytest.mark.timeout(600)
def test_the_site_has_no_warning(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "release.site", tmp_path / "out"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in ("index.html", "docs/robot/index.html", "ARCHITECTURE/index.html"):
        assert (tmp_path / "out/site" / name).is_file()


@needs_mkdocs
def test_a_link_to_a_heading_that_does_not_exist_is_an_error(tmp_path):
    root = tmp_path / "repository"
    (root / "docs/images").mkdir(parents=True)
    shutil.copy(ROOT / "mkdocs.yml", root)
    (root / "README.md").write_text("# A\n\n[x](docs/robot.md#nowhere)\n")
    (root / "docs/robot.md").write_text("# B\n")
    site.stage(tmp_path / "out", root)
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", tmp_path / "out/mkdocs.yml"],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "'#nowhere'" in result.stderr
