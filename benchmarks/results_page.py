"""The page that benchmarks write their tables to, and the machine that they ran on."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def replace_section(path: Path, name: str, text: str) -> None:
    """Put the text between the section's markers, leaving the rest of the file alone."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page = path.read_text()
    if not pattern.search(page):
        raise SystemExit(f"{path} has no markers '{begin}' and '{end}'")
    path.write_text(pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page))


def machine() -> str:
    """Processor, system and Python, as a table's first line names them."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = found.group(1).strip() if found else platform.machine()
    return (
        f"{processor}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
