"""`openpi-flash record`: what a user types and reads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mcap.reader import make_reader
from typer.testing import CliRunner

from openpi_flash_server.cli import app

ROBOT = """
import numpy as np
from openpi_flash_robot.plain import Reading

class Arm:
    def read(self):
        image = np.zeros((24, 32, 3), np.uint8)
        return Reading(np.zeros(7), {"scene": image, "wrist": image})

    def command(self, positions, velocities):
        raise RuntimeError("a dry run commands nothing")
"""
SETTINGS = Path(__file__).parents[3] / "config/robots/sim_arm.yaml"


@pytest.fixture
def arm(tmp_path):
    file = tmp_path / "arm.py"
    file.write_text(ROBOT)
    return file


def record(robot, orders, *options):
    arguments = ["record", str(robot), "--settings", str(SETTINGS), "--server", "127.0.0.1:9"]
    return CliRunner().invoke(app, [*arguments, *map(str, options)], input=orders)


@pytest.mark.filterwarnings("ignore:server 127.0.0.1")
def test_orders_begin_end_mark_and_discard_episodes(arm, tmp_path):
    folder = tmp_path / "episodes"
    orders = "y\n\n\ny\n\np stack it\n\nd\nwhat\n\nq\n\n"
    result = record(f"{arm}:Arm", orders, "--folder", folder)
    assert result.exit_code == 0, result.output
    assert "no episode has been recorded yet" in result.output
    assert ": success" in result.output
    assert " is removed" in result.output
    assert result.output.count("Enter starts and stops an episode") == 2
    # the third one was running when the command ended
    first, third = sorted(folder.iterdir())
    facts = []
    for path in (first, third):
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            facts.append({k: v for r in reader.iter_metadata() for k, v in r.metadata.items()})
            assert reader.get_summary().statistics.message_count > 0
    assert (facts[0]["result"], facts[0]["ended"]) == ("success", "stopped")
    assert (facts[1]["prompt"], facts[1]["ended"]) == ("stack it", "the recorder ended")
    assert not [t for t in threading.enumerate() if t.name == "episode_writer"]


@pytest.mark.parametrize(
    ("robot", "message"),
    [
        ("nowhere.py:Arm", "'nowhere.py:Arm' names no file; write FILE.py:NAME"),
        ("{arm}", "names no file; write FILE.py:NAME"),
        ("{arm}:Leg", "arm.py has no class or function Leg"),
    ],
)
def test_a_robot_that_cannot_be_made_is_named(arm, robot, message):
    result = record(robot.format(arm=arm), "q\n")
    assert result.exit_code == 1
    assert message in result.output
