"""Every `unsafe` in Rust says why it is sound."""

from __future__ import annotations

import re
from pathlib import Path

CRATE = Path(__file__).parent.parent / "src/flash_transport"
UNSAFE = re.compile(r"\bunsafe\b")
ABOVE = 8
"""Lines in which the note stands, above the word."""


def unnoted(text):
    """The lines with `unsafe` outside comments and without a note."""
    lines = text.splitlines()
    return [
        number + 1
        for number, line in enumerate(lines)
        if UNSAFE.search(line.partition("//")[0])
        and not any(
            "safety" in above.lower() for above in lines[max(0, number - ABOVE) : number + 1]
        )
    ]


def test_every_unsafe_has_its_note():
    files = [file for part in ("src", "tests", "examples") for file in (CRATE / part).rglob("*.rs")]
    found = {str(file): unnoted(file.read_text(encoding="utf-8")) for file in files}
    assert {file: lines for file, lines in found.items() if lines} == {}


def test_an_unsafe_without_a_note_is_found():
    assert unnoted("let x = unsafe { y };") == [1]
    assert unnoted("// SAFETY: y is alive.\nlet x = unsafe { y };") == []
    assert unnoted("// unsafe is a word here") == []
