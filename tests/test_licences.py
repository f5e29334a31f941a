"""Every dependency has a licence that deny.toml allows."""

import shutil

import pytest

from release import licences
from release.licences import Dependency, LicenceError, is_allowed, problems, python_licence

ALLOWED = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Zlib"]


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "GPL-3.0-only OR MIT",
        "MIT/GPL-2.0",
        "Apache-2.0 / MIT",
        "MIT AND Zlib",
        "(GPL-3.0-only OR MIT) AND (Zlib OR LGPL-2.1-only)",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-2.0 OR (MIT AND (Zlib))",
    ],
)
def test_what_allowed_licences_can_meet_is_allowed(expression):
    assert is_allowed(expression, ALLOWED)


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT OR Zlib) AND AGPL-3.0-only",
        "MIT WITH some-exception",
        "MITX",
    ],
)
def test_what_needs_another_licence_is_not(expression):
    assert not is_allowed(expression, ALLOWED)


@pytest.mark.parametrize(
    "expression", ["", "MIT OR", "(MIT", "MIT)", "MIT Zlib", "AND MIT", "MIT, Zlib", "MIT AND"]
)
def test_a_malformed_expression_is_an_error(expression):
    with pytest.raises(LicenceError):
        is_allowed(expression, ALLOWED)


def test_a_python_package_says_its_licence_in_one_of_three_places():
    classifiers = ["License :: OSI Approved :: MIT License", "Topic :: Robotics"]
    expression = {"License-Expression": "Zlib", "License": "MIT License"}
    assert python_licence("a", expression, classifiers) == "Zlib"
    assert python_licence("a", {"License": "BSD"}, classifiers) == "MIT"
    assert python_licence("a", {"License": "Apache License 2.0"}, ()) == "Apache-2.0"
    assert python_licence("a", {"License": "Permission is hereby\ngranted"}, ()) == ""
    both = [*classifiers, "License :: OSI Approved :: Apache Software License"]
    assert python_licence("a", {}, both) == "MIT AND Apache-2.0"


def test_what_is_not_allowed_is_named_with_version_and_licence():
    dependencies = [
        Dependency("good", "1", "MIT"),
        Dependency("copyleft", "2.1", "GPL-3.0-only"),
        Dependency("silent", "3", ""),
        Dependency("odd", "4", "MIT Licence"),
    ]
    assert problems(dependencies, ALLOWED) == [
        "copyleft 2.1: licence GPL-3.0-only",
        "silent 3: licence none that is known",
        "odd 4: licence 'MIT Licence': unexpected 'Licence'",
    ]


def test_all_python_packages_that_are_installed_are_allowed():
    packages = licences.python_packages(licences.ROOT / "uv.lock")
    assert {"numpy", "jax", "structlog"} <= {package.name for package in packages}
    assert problems(packages, licences.allowed_licences()) == []


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_all_crates_are_allowed():
    crates = licences.crates(licences.ROOT)
    assert {"quinn", "rustls", "pyo3"} <= {crate.name for crate in crates}
    assert problems(crates, licences.allowed_licences()) == []
