"""The import rules of ARCHITECTURE.md, held by a machine."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_rules import NETWORK_MODULES, OUR_PACKAGES, PACKAGES, PURE_MODULES, PackageRule


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
        may_use_network = path.relative_to(rule.source).parts[0] in rule.network_in
        forbidden = rule.forbidden - (NETWORK_MODULES if may_use_network else frozenset())
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


@pytest.mark.parametrize(
    ("package", "module", "forbidden"),
    [(pure.package, name, pure.forbidden) for pure in PURE_MODULES for name in pure.names],
)
def test_a_pure_module_knows_no_ros_socket_or_clock(package, module, forbidden):
    source = PACKAGES[package].source
    files = [source / f"{module}.py", *(source / module).rglob("*.py")]
    existing = [path for path in files if path.exists()]
    assert existing, f"{package}.{module} does not exist: has it moved?"
    found = [
        f"{path}:{line} imports {name}"
        for path in existing
        for name, line in imports_of(path)
        if name in forbidden - {package}
    ]
    assert found == []


def test_the_rules_catch_what_they_forbid(tmp_path):
    (tmp_path / "bad.py").write_text(
        "def f():\n    import rclpy.node\n    from time import sleep\n"
    )
    rule = PackageRule(tmp_path, forbidden=frozenset({"rclpy"}), third_party=frozenset())
    assert violations("bad", rule) == [f"{tmp_path}/bad.py:2 imports rclpy"]


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
