"""docs/walk-through.md: its commands exist with those options, and its settings are whole."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo.arguments import parse_arguments
from openpi_flash_server.cli import app
from openpi_flash_training.train.settings import check_complete
from openpi_flash_training.train.settings_file import read_settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/walk-through.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)]
OURS = [words[1:] for words in COMMANDS if words[0] == "openpi-flash"]
(SETTINGS,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_ten_commands_in_ten_steps():
    assert len(COMMANDS) == 10
    assert [int(number) for number in re.findall(r"^## (\d+)\.", PAGE, re.MULTILINE)] == [
        *range(1, 11)
    ]
    assert [words[0] for words in COMMANDS] == ["scripts/demo"] + ["openpi-flash"] * 9


def test_the_demo_takes_its_arguments():
    told = parse_arguments(COMMANDS[0][1:])
    assert str(told.record) == "runs/walk/recordings"


@pytest.mark.parametrize("words", OURS, ids=[" ".join(words[:2]) for words in OURS])
def test_the_commands_options_and_files_of_the_project_exist(words):
    name = words[:2] if words[0] == "dataset" else words[:1]
    told = CliRunner().invoke(app, [*name, "--help"]).output
    assert "Usage" in told
    for word in words:
        if word.startswith("--"):
            assert f" {word} " in told, word
        if word.startswith("examples/"):
            assert (ROOT / word).exists(), word


def test_each_command_reads_what_one_before_it_has_made():
    made = {"runs/walk/run.json", COMMANDS[0][COMMANDS[0].index("--record") + 1]}
    made.add(OURS[0][3])
    settings = json.loads(SETTINGS)
    assert settings["data"]["dataset"] in made
    made.add(f"{settings['run']['output']}/{settings['run']['steps'] - 1}")
    for words in OURS:
        read = {word for word in words if word.startswith("runs/")} - {"runs/walk/plots"}
        assert read <= made, words


def test_its_settings_are_whole(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    file.write_text(SETTINGS)
    monkeypatch.chdir(ROOT)
    settings = read_settings(file)
    check_complete(settings)
    assert Path(settings.model.robot_file).is_file()
