"""docs/troubleshooting.md: each message that it quotes is one that the code can print."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
QUOTED = re.findall(r"^#+ `(.*)`$", PAGE, re.MULTILINE)
VALUE = "…"


def texts_of_python(path):
    """Every string of a module, with `…` for what is formatted into it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = (
                part.value if isinstance(part, ast.Constant) else VALUE for part in node.values
            )
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def texts_of_rust(path):
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text(), re.DOTALL):
        yield re.sub(r"\{[^}]*\}", VALUE, re.sub(r"\\\n\s*", "", text))


@pytest.fixture(scope="module")
def printable():
    src = REPOSITORY / "src"
    packages = (
        src / "openpi_flash_client_node" / "openpi_flash_client_node",
        src / "flash_transport" / "python",
        src / "openpi_flash_robot" / "openpi_flash_robot",
        src / "openpi_flash_models" / "src",
        src / "openpi_flash_server" / "src",
    )
    python = [
        text for root in packages for path in root.rglob("*.py") for text in texts_of_python(path)
    ]
    rust = [
        text
        for path in (src / "flash_transport" / "src").rglob("*.rs")
        for text in texts_of_rust(path)
    ]
    return python + rust


def test_the_page_quotes_messages():
    assert len(QUOTED) > 20


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_code(printable, message):
    pattern = re.compile(".*?".join(map(re.escape, message.split(VALUE))), re.DOTALL)
    assert any(pattern.search(text) for text in printable), "no such message: take the new one"


def test_every_link_leads_to_a_page_and_a_heading_that_are_there():
    for page, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", PAGE):
        text = PAGE if not page else (REPOSITORY / "docs" / page).read_text()
        anchors = [
            re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert not heading or heading in anchors, f"{page}#{heading}"
