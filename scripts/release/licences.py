"""Whether every dependency has a licence that deny.toml allows, without asking the network.

Crates say theirs in `cargo metadata`, Python packages in the metadata of this environment.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent.parent

REVIEWED = {
    "apsw": "Zlib",  # "any OSI licence" of the user's choice
    "cmake": "BSD-3-Clause",  # CMake itself; the Python around it is Apache-2.0
    "docutils": "BSD-2-Clause AND PSF-2.0",  # its GPL part is an Emacs mode, which no wheel holds
    "grain": "Apache-2.0",  # gives the whole text
    "openpi-client": "Apache-2.0",  # says it in its repository only
    "setuptools": "MIT",  # gives a file only
    "uvloop": "MIT OR Apache-2.0",
}
"""Packages whose metadata do not say their licence in one sense, by name."""

WITHOUT_METADATA = re.compile(r"ros-|rosidl-|ament-")
"""ROS 2's own packages (Apache-2.0, BSD): their wheels, for demo and tests, hold no metadata."""

OF_NVIDIA = re.compile(r"nvidia-|cuda-")
"""CUDA's libraries, which PyTorch and JAX bring for a GPU, under NVIDIA's own licence: a user of
them accepts it, and nothing of ours holds them."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
TEXTS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "MIT License": "MIT",
}


class LicenceError(Exception):
    """A licence expression is malformed."""


@dataclass(frozen=True)
class Dependency:
    """A package that somebody else made, and the licence that it says, as SPDX."""

    name: str
    version: str
    licence: str


def is_allowed(expression: str, allowed: Iterable[str]) -> bool:
    """Whether a licence expression can be met with allowed licences alone.

    Args:
        expression: SPDX (annex D): licences, `WITH`, `AND`, `OR`, parentheses; `/` is an old `OR`.
        allowed: licences, with their exceptions, such as `Apache-2.0 WITH LLVM-exception`.

    Raises:
        LicenceError: the expression is malformed.
    """
    words = re.findall(r"[()/]|[^\s()/]+", expression)
    rest = list(reversed(["OR" if word == "/" else word for word in words]))
    answer = _alternatives(rest, frozenset(allowed))
    if rest:
        raise LicenceError(f"licence {expression!r}: unexpected {rest[-1]!r}")
    return answer


def python_licence(name: str, metadata: Mapping[str, str], classifiers: Iterable[str]) -> str:
    """The licence of a Python package as SPDX, or an empty text if it says none that we know."""
    if name in REVIEWED:
        return REVIEWED[name]
    if metadata.get("License-Expression"):
        return metadata["License-Expression"]
    named = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License :: ")]
    known = [CLASSIFIERS[text] for text in named if text in CLASSIFIERS]
    if known:
        return " AND ".join(known)
    text = (metadata.get("License") or "").strip()
    return TEXTS.get(text, text if len(text) < 60 and "\n" not in text else "")


def python_packages(lock: Path) -> list[Dependency]:
    """The packages of uv.lock that are installed here and not ours."""
    packages = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    found = {}
    for name in {package["name"] for package in packages if "registry" in package["source"]}:
        if WITHOUT_METADATA.match(name) or OF_NVIDIA.match(name):
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        metadata = distribution.metadata
        single = {
            key: metadata[key] for key in ("License-Expression", "License") if key in metadata
        }
        licence = python_licence(name, single, metadata.get_all("Classifier") or ())
        found[name] = Dependency(name, distribution.version, licence)
    return [found[name] for name in sorted(found)]


def crates(root: Path) -> list[Dependency]:
    """The crates of Cargo.lock that a build for Linux takes, and which are not ours."""
    listing = subprocess.run(
        [
            *("cargo", "metadata", "--offline", "--locked", "--format-version=1"),
            *("--all-features", "--filter-platform=x86_64-unknown-linux-gnu"),
        ],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        Dependency(package["name"], package["version"], package["license"] or "")
        for package in json.loads(listing.stdout)["packages"]
        if package["source"] is not None
    ]


def problems(dependencies: Iterable[Dependency], allowed: Iterable[str]) -> list[str]:
    """One line for each dependency whose licence is unknown or not allowed."""
    allowed = frozenset(allowed)
    found = []
    for dependency in dependencies:
        named = f"{dependency.name} {dependency.version}"
        try:
            if dependency.licence and is_allowed(dependency.licence, allowed):
                continue
            said = dependency.licence or "none that is known"
            found.append(f"{named}: licence {said}")
        except LicenceError as error:
            found.append(f"{named}: {error}")
    return found


def allowed_licences(root: Path = ROOT) -> list[str]:
    """The licences that deny.toml allows."""
    return list(tomllib.loads((root / "deny.toml").read_text())["licenses"]["allow"])


def main(root: Path = ROOT) -> int:
    """Print every dependency that is not allowed; returns the exit status."""
    rust, python = crates(root), python_packages(root / "uv.lock")
    bad = problems([*rust, *python], allowed_licences(root))
    for problem in bad:
        sys.stderr.write(f"error: {problem}; allow it in deny.toml, or do without\n")
    sys.stdout.write(f"{len(rust)} crates and {len(python)} Python packages checked\n")
    return 1 if bad else 0


def _alternatives(rest: list[str], allowed: frozenset[str]) -> bool:
    answer = _together(rest, allowed)
    while rest and rest[-1].upper() == "OR":
        rest.pop()
        # both sides are read, whatever the first one is
        answer = _together(rest, allowed) or answer
    return answer


def _together(rest: list[str], allowed: frozenset[str]) -> bool:
    answer = _one(rest, allowed)
    while rest and rest[-1].upper() == "AND":
        rest.pop()
        answer = _one(rest, allowed) and answer
    return answer


def _one(rest: list[str], allowed: frozenset[str]) -> bool:
    word = rest.pop() if rest else ""
    if word == "(":
        answer = _alternatives(rest, allowed)
        if not rest or rest.pop() != ")":
            raise LicenceError("licence: a parenthesis is not closed")
        return answer
    if not re.fullmatch(r"[A-Za-z0-9.+-]+", word) or word.upper() in {"AND", "OR", "WITH"}:
        raise LicenceError(f"licence: expected a name, got {word!r}")
    if rest and rest[-1].upper() == "WITH":
        rest.pop()
        word = f"{word} WITH {rest.pop() if rest else ''}"
    return word in allowed


if __name__ == "__main__":
    sys.exit(main())
