"""The pages of the documentation site, from the Markdown files that people read in the repository.

Links between pages stay; links to anything else in the repository name it on its host, where the
site has no copy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = "https://github.com/openpi-flash/openpi-flash"
"""Where sources are linked to, unless OPENPI_FLASH_REPOSITORY says otherwise."""

ROOT_PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
NAVIGATION = {
    "Robot engineers": (
        "robot",
        "distributions",
        "add-a-robot",
        "plain-python",
        "interfaces",
        "robot_parameters",
        "black-box",
        "recording-episodes",
        "chunk-methods",
        "visualisation",
    ),
    "ML engineers": (
        "models",
        "checkpoints",
        "robots",
        "own-policy",
        "client",
        "reference-answers",
        "walk-through",
        "datasets",
        "training",
        "training-losses",
        "evaluation",
    ),
    "Operators": (
        "server",
        "server_config",
        "operate",
        "security",
        "recording",
        "network",
        "docker",
        "runbook",
        "sizing",
        "scaling",
        "aws",
        "modal",
        "positronic",
    ),
    "Everybody": ("troubleshooting", "migrate", "protocol", "benchmarks", "releasing"),
}
"""The order of the pages of docs/; the others come last."""

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(\s*```\w*) .*")
LIST_ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
MISSING = "mkdocs-material is not installed: pip install -r docs/requirements.txt"


def stage(target: Path, root: Path = ROOT, repository: str = REPOSITORY) -> None:
    """Write the site's pages and configuration to the new folder `target`."""
    pages = target / "pages"
    pages.mkdir(parents=True)
    (pages / "docs").mkdir()
    names = [PurePosixPath(name) for name in ROOT_PAGES if (root / name).is_file()]
    names += [PurePosixPath("docs") / path.name for path in sorted((root / "docs").glob("*.md"))]
    for name in names:
        text = (root / name).read_text(encoding="utf-8")
        (pages / name).write_text(page(text, name, frozenset(names), repository), encoding="utf-8")
    shutil.copytree(root / "docs/images", pages / "docs/images")
    settings = (root / "mkdocs.yml").read_text(encoding="utf-8")
    settings += f"\nrepo_url: {json.dumps(repository)}\nnav: {json.dumps(navigation(names))}\n"
    (target / "mkdocs.yml").write_text(settings, encoding="utf-8")


def page(
    text: str, name: PurePosixPath, pages: frozenset[PurePosixPath], repository: str = REPOSITORY
) -> str:
    """A page as the site needs it.

    Args:
        text: Markdown.
        name: the page's path in the repository.
        pages: all pages of the site.
        repository: where links to other files lead.
    """

    def link(match: re.Match[str]) -> str:
        path = PurePosixPath(os.path.normpath(name.parent / match["path"]))
        if path in pages or path.is_relative_to("docs/images"):
            return match[0]
        return f"{repository}/blob/main/{path}{match['anchor'] or ''}"

    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_code = not is_code
        if is_code or line.lstrip().startswith("```"):
            # what a fence says beyond its language is for tests
            lines.append(FENCE.sub(r"\1", line))
            continue
        if lines and _begins_a_list(lines[-1], line):
            lines.append("")
        lines.append(LINK.sub(link, line))
    return "\n".join(lines) + "\n"


def _begins_a_list(before: str, line: str) -> bool:
    """Whether GitHub begins a list here, where Python-Markdown asks for an empty line."""
    goes_on = LIST_ITEM.match(before) or before.startswith((" ", "#")) or not before.strip()
    return LIST_ITEM.match(line) is not None and not goes_on


def navigation(names: list[PurePosixPath]) -> list[dict[str, object]]:
    """The site's contents, in mkdocs' form."""
    rest = {name.stem: str(name) for name in names if name.parent.name == "docs"}
    contents: list[dict[str, object]] = [{"openpi-flash": "README.md"}]
    for title, stems in NAVIGATION.items():
        contents.append({title: [rest.pop(stem) for stem in stems if stem in rest]})
    if rest:
        contents.append({"More": list(rest.values())})
    others = [name for name in map(str, names) if name in ROOT_PAGES and name != "README.md"]
    contents.append({"The project": others})
    return contents


def build(target: Path, root: Path = ROOT) -> int:
    """Build the site into `target/site` beside its pages; returns mkdocs' exit status."""
    stage(target, root, os.environ.get("OPENPI_FLASH_REPOSITORY", REPOSITORY))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", target / "mkdocs.yml"], check=False
    ).returncode


if __name__ == "__main__":
    if subprocess.run([sys.executable, "-c", "import material"], check=False).returncode:
        sys.exit(f"error: {MISSING}")
    sys.exit(build(Path(sys.argv[1])))
