"""`openpi-flash stats`: what a user types and reads."""

from __future__ import annotations

import numpy as np
import pytest
from test_statistics import dataset
from typer.testing import CliRunner

from openpi_flash_models.checkpoints.statistics import read_statistics
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(2)
    states = rng.uniform(0, 1, (130, 14)).astype(np.float32)
    dataset(tmp_path / "set", states, states + 0.1, [70, 60])
    return tmp_path / "set"


def run(*arguments: object):
    return CliRunner().invoke(app, ["stats", *map(str, arguments)])


def test_statistics_go_where_serving_finds_them(folder):
    result = run(folder, "--config", "pi05_aloha")
    assert result.exit_code == 0, result.output
    assert "128 of 130 frames" in result.output
    assert "chunks of 50 steps, 12 of 14 actions relative" in result.output
    stats = read_statistics(folder, get_config("pi05_aloha"))
    assert stats.actions.size == 14


def test_a_robot_with_a_horizon_is_enough(folder, tmp_path):
    options = ("--horizon", 3, "--delta", "6,-1,6,-1", "--exact", "--output", tmp_path / "out")
    result = run(folder, "--robot", "aloha", *options)
    assert result.exit_code == 0, result.output
    assert "130 of 130 frames, exact" in result.output
    assert (tmp_path / "out/assets/aloha/norm_stats.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "pi05_libero"], "error: .*set: the column observation.state has 14 numbers"),
        (["--config", "pi05_alhoa"], "error: no config named 'pi05_alhoa', closest: pi05_aloha"),
        (["--robot", "aloah"], "error: no robot named 'aloah', known: aloha"),
        (["--config", "pi05_aloha", "--horizon", "3"], "--horizon and --delta are for --robot"),
        (["--robot", "aloha", "--column", "action"], "'action' is not KEY=COLUMN"),
        (["--robot", "aloha", "--column", "action=act"], "mapped to 'act', which the dataset lac"),
    ],
)
def test_mistakes_are_named(folder, options, message):
    import re

    result = run(folder, *options)
    assert result.exit_code != 0
    assert re.search(message, result.output), result.output


def test_a_column_that_is_not_found_is_named_by_an_option(tmp_path):
    features = {name: Feature("float32", (14,)) for name in ("observation.state", "moves")}
    with DatasetWriter(tmp_path / "set", 10, features) as writer:
        numbers = np.random.default_rng(2).uniform(0, 1, (40, 14)).astype(np.float32)
        writer.add_episode("t", dict.fromkeys(features, numbers))
    result = run(tmp_path / "set", "--robot", "aloha")
    assert result.exit_code == 1
    assert (
        "set: the dataset has no column for action; name it by --column action=COLUMN; there"
        in (result.output)
    )
    assert run(tmp_path / "set", "--robot", "aloha", "--column", "action=moves").exit_code == 0
