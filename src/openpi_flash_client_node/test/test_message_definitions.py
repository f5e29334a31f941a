"""The definitions in openpi_flash_msgs stay as they are: robots, bags and tools depend on them.

ROS 2 knows no optional fields: a field that is added, renamed or moved makes nodes of two versions
deaf to each other, and old bags unreadable. A new constant breaks nothing. If a change is meant,
say it in CHANGELOG.md, and take it over with `python test/test_message_definitions.py` in
src/openpi_flash_client_node.
"""

import difflib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MESSAGES = REPOSITORY / "src" / "openpi_flash_msgs"
PINNED = Path(__file__).parent / "data" / "message_definitions.txt"
KINDS = ("msg", "srv", "action")


def files():
    return sorted(path for kind in KINDS for path in MESSAGES.glob(f"{kind}/*.{kind}"))


def bare(path):
    """The lines of a definition that programs see: no comments, one space between words."""
    lines = (" ".join(line.split("#")[0].split()) for line in path.read_text().splitlines())
    return [line for line in lines if line]


def definitions():
    return "\n".join(
        "\n".join((f"== {path.relative_to(MESSAGES)}", *bare(path), "")) for path in files()
    )


def test_the_definitions_are_the_pinned_ones():
    difference = difflib.unified_diff(
        PINNED.read_text().splitlines(),
        definitions().splitlines(),
        "pinned",
        "now",
        lineterm="",
        n=2,
    )
    assert PINNED.read_text() == definitions(), f"{__doc__}\n" + "\n".join(difference)


def test_every_definition_is_built():
    listed = (MESSAGES / "CMakeLists.txt").read_text()
    assert len(files()) >= 7
    for path in files():
        assert f'"{path.relative_to(MESSAGES)}"' in listed


def test_every_field_is_explained():
    """By a comment behind it, or above it or the fields it stands with."""
    for path in files():
        is_explained = False
        for line in path.read_text().splitlines():
            words, _, comment = line.partition("#")
            if comment:
                is_explained = True
            elif not words.strip() or words.strip() == "---":
                is_explained = False
            is_constant = "=" in words
            if words.strip() and words.strip() != "---" and not is_constant:
                is_plain_answer = words.split() == ["bool", "success"]
                assert is_explained or is_plain_answer, f"{path.name}: {words}"


def test_arrays_are_unbounded():
    """PlotJuggler cannot read bounded ones."""
    assert "<=" not in definitions()


if __name__ == "__main__":
    PINNED.parent.mkdir(exist_ok=True)
    PINNED.write_text(definitions())
