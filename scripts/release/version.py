"""The version of openpi-flash, and every file that repeats it.

`[workspace.package] version` in Cargo.toml decides; package formats that cannot read another file
repeat it. `scripts/version X.Y.Z` writes all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
"""What Cargo, Python and ROS all accept."""

_NUMBER = r"(?P<version>\d+\.\d+\.\d+)"


class VersionError(Exception):
    """A version is malformed, missing from a file, or not the same everywhere."""


@dataclass(frozen=True)
class Place:
    """A file that repeats the version, and where in it.

    Each match of `pattern`, in multi-line mode, holds the version in its group `version`.
    """

    path: str
    pattern: str
    count: int = 1
    """How many matches the file must have."""


SOURCE = Place("Cargo.toml", rf'^\[workspace\.package\]\nversion = "{_NUMBER}"$')

_TOML = rf'^version = "{_NUMBER}"$'
_XML = rf"^  <version>{_NUMBER}</version>$"
_SETUP = rf'^    version="{_NUMBER}",$'


def _lock(*names: str) -> str:
    return rf'^name = "(?:{"|".join(names)})"\nversion = "{_NUMBER}"$'


COPIES = (
    Place("Cargo.lock", _lock("flash_transport")),
    Place("pyproject.toml", rf'^name = "openpi-flash-workspace"\nversion = "{_NUMBER}"$'),
    Place("uv.lock", _lock("openpi-flash-[a-z]+"), count=4),
    Place("packaging/openpi-flash/pyproject.toml", rf'(?:^version = "|==){_NUMBER}"', count=8),
    Place("src/flash_transport/package.xml", _XML),
    Place(
        "src/flash_transport/python/flash_transport/pure/__init__.py",
        rf'^__version__ = "{_NUMBER}"$',
    ),
    Place("src/openpi_flash/package.xml", _XML),
    Place("src/openpi_flash_client_node/package.xml", _XML),
    Place("src/openpi_flash_client_node/setup.py", _SETUP),
    Place("src/openpi_flash_models/pyproject.toml", _TOML),
    Place("src/openpi_flash_msgs/package.xml", _XML),
    Place("src/openpi_flash_robot/package.xml", _XML),
    Place("src/openpi_flash_robot/setup.py", _SETUP),
    Place("src/openpi_flash_server/pyproject.toml", _TOML),
    Place("src/openpi_flash_training/pyproject.toml", _TOML),
    Place("docs/server.md", rf"^server_version  {_NUMBER}$"),
    Place("examples/own_policy/README.md", rf"^server_version  {_NUMBER}$"),
)


def parse(text: str) -> str:
    """The version in `text`; raises VersionError if it is not X.Y.Z."""
    if not VERSION.fullmatch(text):
        raise VersionError(f"version {text!r}: expected X.Y.Z, which Cargo, Python and ROS accept")
    return text


def current(root: Path = ROOT) -> str:
    """The version of this checkout."""
    return _read(root, SOURCE)[0]


def disagreements(root: Path = ROOT) -> list[str]:
    """One line for each file whose version is missing or not that of Cargo.toml."""
    version = current(root)
    return [
        f"{place.path}: version {found}, but {SOURCE.path} says {version}"
        for place in COPIES
        for found in sorted(set(_read(root, place)))
        if found != version
    ]


def write(version: str, root: Path = ROOT) -> list[str]:
    """Write the version to every file; returns those that changed.

    Raises VersionError, before anything is written, if a file has no such place.
    """
    parse(version)
    changed = {}
    for place in (SOURCE, *COPIES):
        _read(root, place)
        text = (root / place.path).read_text(encoding="utf-8")
        new = re.sub(
            place.pattern,
            lambda match: match[0].replace(match["version"], version),
            text,
            flags=re.MULTILINE,
        )
        if new != text:
            changed[place.path] = new
    for path, text in changed.items():
        (root / path).write_text(text, encoding="utf-8")
    return list(changed)


def _read(root: Path, place: Place) -> list[str]:
    text = (root / place.path).read_text(encoding="utf-8")
    found = [match["version"] for match in re.finditer(place.pattern, text, re.MULTILINE)]
    if len(found) != place.count:
        raise VersionError(
            f"{place.path}: {len(found)} versions found, expected {place.count}; "
            "correct its row in scripts/release/version.py"
        )
    return found
