"""Which module of the Rust crate may use which: one way, and no two files use each other.

codec <- link <- local <- quic <- python, link <- relay <- quic, link <- websocket <- python, and
the leaves (buffers, codec, repair, image, trust; congestion tells repair what a path loses) know
none of what is built on them. `buffers` and `text` are open to all.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "src"

MAY_USE: dict[str, set[str]] = {
    "large_blocks": set(),
    "buffers": set(),
    "text": set(),
    "codec": {"buffers", "text"},
    "repair": {"buffers"},
    "congestion": {"repair"},
    "image": {"buffers", "text"},
    "trust": {"text"},
    "link": {"buffers", "codec", "text"},
    "local": {"buffers", "codec", "link", "text"},
    "relay": {"link", "text", "trust"},
    "quic": {
        "buffers",
        "codec",
        "congestion",
        "link",
        "local",
        "relay",
        "repair",
        "text",
        "trust",
    },
    "websocket": {"buffers", "link", "text", "trust"},
    "python": {
        "buffers",
        "codec",
        "image",
        "link",
        "local",
        "quic",
        "relay",
        "text",
        "trust",
        "websocket",
    },
}

Name = tuple[str, ...]


def module_files() -> dict[Name, Path]:
    """The crate's modules by their paths, without its root, its programs and its tests."""
    found = {}
    for file in sorted(SOURCE.rglob("*.rs")):
        name = file.relative_to(SOURCE).with_suffix("").parts
        if name[0] in {"bin", "lib"} or "tests" in name:
            continue
        found[name[:-1] if name[-1] == "mod" else name] = file
    return found


def without_tests_and_comments(text: str) -> str:
    text = text.split("#[cfg(test)]\nmod tests", 1)[0]
    return re.sub(r"//.*", "", text)


def flattened(tree: str) -> Iterator[str]:
    """The paths of what stands between `use` and `;`."""
    tree = tree.strip()
    if not tree.endswith("}"):
        yield tree.split(" as ")[0].strip()
        return
    prefix, body = tree[:-1].split("{", 1)
    depth, part = 0, ""
    for character in body + ",":
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if part.strip():
                yield from flattened(prefix + part.strip())
            part = ""
        else:
            part += character


def used_paths(text: str) -> Iterator[str]:
    text = without_tests_and_comments(text)
    for tree in re.findall(r"\buse\s+([^;]*);", text):
        yield from flattened(tree)
    yield from re.findall(r"\b\w+(?:::\w+)+", re.sub(r"\buse\s+[^;]*;", "", text))


def resolved(path: str, user: Name, modules: dict[Name, Path]) -> Name | None:
    """The module that `path` leads to from `user`; None where it is none of this crate."""
    steps = [step.strip() for step in path.split("::")]
    base = list(user)
    if steps[0] == "crate":
        base, steps = [], steps[1:]
    while steps and steps[0] in {"super", "self"}:
        base = base[:-1] if steps[0] == "super" else base
        steps = steps[1:]
    full = (*base, *steps)
    inside = (full[:end] for end in range(len(full), 0, -1))
    return next((name for name in inside if name in modules), None)


def uses(modules: dict[Name, Path]) -> dict[Name, set[Name]]:
    found: dict[Name, set[Name]] = {}
    for name, file in modules.items():
        used = {resolved(path, name, modules) for path in used_paths(file.read_text())}
        found[name] = {other for other in used if other is not None and other != name}
    return found


@pytest.fixture(scope="module")
def graph() -> dict[Name, set[Name]]:
    return uses(module_files())


def test_every_part_of_the_crate_has_its_row(graph: dict[Name, set[Name]]) -> None:
    assert {name[0] for name in graph} == set(MAY_USE)


def test_parts_use_only_what_is_below_them(graph: dict[Name, set[Name]]) -> None:
    upwards = [
        f"{'/'.join(user)} uses {'/'.join(used)}"
        for user, others in graph.items()
        for used in others
        if used[0] != user[0] and used[0] not in MAY_USE[user[0]]
    ]
    assert upwards == []


def test_no_files_use_each_other_in_a_circle(graph: dict[Name, set[Name]]) -> None:
    # takes away the files that use none of those left, until the circles remain
    left = dict(graph)
    while free := [name for name, used in left.items() if not used & set(left)]:
        for name in free:
            del left[name]
    assert sorted("/".join(name) for name in left) == []


def test_a_circle_and_a_way_up_would_be_seen(tmp_path: Path) -> None:
    texts = {
        ("codec",): "use crate::link::{self, wire::{Kind as K, Other}};",
        ("link", "wire"): "fn f() { super::hello::g(); }",
        ("link", "hello"): "use super::wire::Kind;",
        ("link",): "mod hello; // use crate::quic::x\nuse hello::Hello;",
    }
    modules = {}
    for number, (name, text) in enumerate(texts.items()):
        modules[name] = tmp_path / f"{number}.rs"
        modules[name].write_text(text)
    assert uses(modules) == {
        ("codec",): {("link",), ("link", "wire")},
        ("link", "wire"): {("link", "hello")},
        ("link", "hello"): {("link", "wire")},
        ("link",): {("link", "hello")},
    }
