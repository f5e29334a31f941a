"""The import rules of ARCHITECTURE.md, held by a machine."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_rules import (
    NETWORK_MODULES,
    OUR_PACKAGES,
    PACKAGES,
    PURE_MODULES,
    ROOMS,
    ROS_MODULES,
    PackageRule,
)


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the top-level name and line of everything a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0], node.lineno


def violations(name: str, rule: PackageRule) -> list[str]:
    """List every import of a package that its rule does not allow."""
    files = sorted(rule.source.rglob("*.py"))
    assert files, f"{rule.source} holds no Python: has {name} moved?"
    found = []
    for path in files:
        folder = path.relative_to(rule.source).parts[0]
        forbidden = rule.forbidden
        forbidden -= NETWORK_MODULES if folder in rule.network_in else frozenset()
        forbidden -= ROS_MODULES if folder in rule.ros_in else frozenset()
        for module, line in imports_of(path):
            ours = module in OUR_PACKAGES and module != name and module not in rule.may_import
            foreign = (
                rule.third_party is not None
                and module not in rule.third_party
                and module not in sys.stdlib_module_names
                and module not in OUR_PACKAGES
                and module != name
            )
            if ours or foreign or module in forbidden:
                found.append(f"{path}:{line} imports {module}")
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_imports_only_what_its_rule_allows(name):
    assert violations(name, PACKAGES[name]) == []


def own_imports(path: Path, package: str) -> Iterator[tuple[str, int]]:
    """Yield what a file imports of its own package: dotted below the package, and the line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names = [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from package.room import module` names a module, or something in the room itself
            names = [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        else:
            continue
        for name, line in names:
            if name.startswith(f"{package}."):
                yield name.removeprefix(f"{package}."), line


def files_of(package: str, module: str) -> list[Path]:
    """The module's file, or every file of the folder."""
    at = PACKAGES[package].source / module.replace(".", "/")
    return [path for path in (at.with_suffix(".py"), *at.rglob("*.py")) if path.exists()]


def is_in(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize(
    ("pure", "module"), [(pure, name) for pure in PURE_MODULES for name in pure.names]
)
def test_a_pure_module_knows_no_ros_socket_or_clock(pure, module):
    files = files_of(pure.package, module)
    assert files, f"{pure.package}.{module} does not exist: has it moved?"
    found = [
        f"{path}:{line} imports {name}"
        for path in files
        for name, line in imports_of(path)
        if name in pure.forbidden - {pure.package}
    ]
    assert found == []


@pytest.mark.parametrize("pure", PURE_MODULES, ids=lambda pure: pure.package)
def test_of_its_own_package_a_pure_module_imports_pure_modules_only(pure):
    found = [
        f"{path}:{line} imports {name}"
        for module in pure.names
        for path in files_of(pure.package, module)
        for name, line in own_imports(path, pure.package)
        if not is_in(name, pure.names)
    ]
    assert found == []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_from_the_floors_below_only(package):
    source = PACKAGES[package].source
    floor_of = {room: floor for floor, rooms in enumerate(ROOMS[package]) for room in rooms}
    found = []
    for path in sorted(source.rglob("*.py")):
        room = path.relative_to(source).with_suffix("").parts[0]
        if room == "__init__" and room not in floor_of:
            continue
        assert room in floor_of, f"{path} is in no room of import_rules.ROOMS"
        for name, line in own_imports(path, package):
            other = name.split(".")[0]
            if other != room and floor_of.get(other, 0) >= floor_of[room]:
                found.append(f"{path}:{line} imports {name}")
    assert found == []


def test_the_rules_catch_what_they_forbid(tmp_path):
    (tmp_path / "bad.py").write_text(
        "def f():\n    import rclpy.node\n    from time import sleep\n"
    )
    rule = PackageRule(tmp_path, forbidden=frozenset({"rclpy"}), third_party=frozenset())
    assert violations("bad", rule) == [f"{tmp_path}/bad.py:2 imports rclpy"]


def test_an_import_is_seen_in_each_of_its_forms(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import p.a.b\nfrom p.c import d\nfrom p import e\nimport other\n")
    assert list(own_imports(path, "p")) == [("a.b", 1), ("c.d", 2), ("e", 3)]


def test_every_source_package_has_a_rule():
    sources = {rule.source for rule in PACKAGES.values()}
    root = Path(__file__).parent.parent / "src"
    packages = {
        path.parent
        for path in root.glob("*/**/__init__.py")
        if not (path.parent.parent / "__init__.py").exists()
        and not {"test", "tests", "build"} & set(path.relative_to(root).parts)
    }
    assert packages == sources
