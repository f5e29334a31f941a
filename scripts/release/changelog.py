"""The changelogs of a release: CHANGELOG.md for users, one in each ROS package for bloom."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

UNRELEASED = "## Unreleased"
FORTHCOMING = "Forthcoming"


class ChangelogError(Exception):
    """A changelog lacks the section that a release needs."""


def notes(text: str, version: str) -> str:
    """The section of CHANGELOG.md for `version`, without its heading.

    Raises ChangelogError if there is none, or nothing in it.
    """
    heading = re.search(rf"^## {re.escape(version)}(?: \(.+\))?$", text, re.MULTILINE)
    if heading is None:
        raise ChangelogError(f"CHANGELOG.md: no section '## {version}'; run scripts/version first")
    section = re.split(r"^## ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not section:
        raise ChangelogError(f"CHANGELOG.md: section '## {version}' is empty")
    return section + "\n"


def close_unreleased(text: str, version: str, day: date) -> str:
    """CHANGELOG.md with what was unreleased under the version, and a new empty section above."""
    if text.count(f"\n{UNRELEASED}\n") != 1:
        raise ChangelogError(f"CHANGELOG.md: expected one section {UNRELEASED!r}")
    return text.replace(
        f"\n{UNRELEASED}\n", f"\n{UNRELEASED}\n\n## {version} ({day.isoformat()})\n", 1
    )


def close_forthcoming(text: str, version: str, day: date) -> str:
    """CHANGELOG.rst with what was forthcoming under the version, as catkin_prepare_release does.

    bloom wants a section for every version, so a package without changes gets one that says so.
    """
    title = f"{version} ({day.isoformat()})"
    section = f"\n{title}\n{'-' * len(title)}\n"
    heading = f"\n{FORTHCOMING}\n{'-' * len(FORTHCOMING)}\n"
    if heading in text:
        return text.replace(heading, section, 1)
    lines = text.splitlines(keepends=True)
    if len(lines) < 4 or not lines[0].startswith("^^^") or lines[0] != lines[2]:
        raise ChangelogError("CHANGELOG.rst: expected a title between two lines of ^")
    return "".join([*lines[:3], f"{section}* No changes of its own.\n", *lines[3:]])


def ros_changelogs(root: Path) -> list[Path]:
    """The CHANGELOG.rst of each ROS package."""
    return sorted(root.glob("src/*/CHANGELOG.rst"))


def close(root: Path, version: str, day: date) -> None:
    """Give the open sections of all changelogs their version and date."""
    texts = {}
    page = root / "CHANGELOG.md"
    texts[page] = close_unreleased(page.read_text(encoding="utf-8"), version, day)
    for path in ros_changelogs(root):
        try:
            texts[path] = close_forthcoming(path.read_text(encoding="utf-8"), version, day)
        except ChangelogError as error:
            raise ChangelogError(f"{path.relative_to(root)}: {error}") from None
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
