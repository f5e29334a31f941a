"""docs/datasets.md shows commands and options that exist, and Python that runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openpi_flash_server.cli import app

PAGE = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text()
COMMANDS = re.findall(r"openpi-flash ((?:dataset )?[a-z]+)((?: [^`\n|]+)?)", PAGE)


def told(command: str) -> str:
    return CliRunner().invoke(app, [*command.split(), "--help"]).output


@pytest.mark.parametrize("command", sorted({command for command, _ in COMMANDS}))
def test_every_command_and_option_of_an_example_exists(command):
    helped = told(command)
    assert "Usage" in helped
    for name, arguments in COMMANDS:
        for option in re.findall(r"--[a-z-]+", arguments) if name == command else ():
            assert f" {option} " in helped, option


def test_the_page_names_every_option_of_convert():
    options = set(re.findall(r"  (--[a-z-]+)", told("dataset convert"))) - {"--help"}
    assert len(options) > 15
    named = set(re.findall(r"--[a-z-]+", PAGE))
    assert options - named == {"--robot-file"}


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    given = {
        "names": tuple("abcdefg"),
        "states": np.zeros((30, 7)),
        "actions": np.ones((30, 7)),
        "boxes": np.zeros((30, 4)),
        "images": np.zeros((30, 224, 224, 3), np.uint8),
    }
    exec(code, given)  # the page's own words
    assert given["numbers"]["action"].shape == (30, 7)
    assert given["images"].shape == (3, 224, 224, 3)
