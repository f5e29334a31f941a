"""`scripts/version`: print, set or check the version; print the notes of a release."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path

from release import changelog, version

USAGE = """scripts/version [X.Y.Z | --check | --notes]"""


def main(arguments: list[str], root: Path = version.ROOT) -> int:
    """Run `scripts/version` with these arguments; returns its exit status."""
    parser = argparse.ArgumentParser(prog="scripts/version", usage=USAGE, add_help=False)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("new", nargs="?")
    what.add_argument("--check", action="store_true")
    what.add_argument("--notes", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            return _check(root)
        if options.notes:
            text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
            sys.stdout.write(changelog.notes(text, version.current(root)))
        elif options.new is None:
            sys.stdout.write(version.current(root) + "\n")
        else:
            _release(root, options.new)
    except (version.VersionError, changelog.ChangelogError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _check(root: Path) -> int:
    problems = version.disagreements(root)
    sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
    return 1 if problems else 0


def _release(root: Path, new: str) -> None:
    day = date.today()
    version.parse(new)
    changelog.close(root, new, day)
    for path in version.write(new, root):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
